"""`plugins.testing`: authors test functions with it, and get an error that names the fault."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from plugins import Context, Event, Progress, function
from plugins.entries import NotJSONError
from plugins.testing import context, run, stream


class Model:
    """A resource that a worker would make once."""

    def __init__(self, word: str) -> None:
        self.word = word


@asynccontextmanager
async def lifespan() -> AsyncIterator[Model]:
    """Makes one."""
    yield Model("made")


@function()
async def says(text: str, times: int = 2) -> AsyncIterator[object]:
    """Values, an event, and how far it is."""
    for number in range(times):
        yield (text, number)
    yield Event("page", {"n": 1})
    yield Progress(1, 2)


@function()
def in_a_thread(text: str) -> Iterator[str]:
    """Not async."""
    yield from text.split()


@function(retries=1, resumable=True)
async def goes_on(ctx: Context, model: Model) -> list[object]:
    """Return all that it gets beside its input."""
    ctx.logger.info("goes on", attempt=ctx.attempt)
    return [ctx.attempt, ctx.yielded, model.word]


def test_chunks_are_what_readers_get() -> None:
    """JSON values, so a tuple is a list; named ones by their names; of every kind of function."""
    assert run(says, text="a", times=1) == [
        ["a", 0],
        Event("page", {"n": 1}),
        Event("progress", {"done": 1, "total": 2}),
    ]
    assert run(in_a_thread, text="to be") == ["to", "be"]


def test_what_a_worker_gives() -> None:
    """A context and what the module's lifespan makes come by themselves; a test may give its own."""
    assert run(goes_on) == [[1, [], "made"]]
    again = Context(task_id="t", attempt=2, yielded=[1], logger=None)  # type: ignore[arg-type]  # it logs nothing
    with pytest.raises(AttributeError):
        run(goes_on, ctx=again, model=Model("mine"))


@function()
def whose(ctx: Context) -> str:
    """The owner."""
    return ctx.owner


def test_the_owner() -> None:
    """It is `anonymous`, as without authentication; a test may give another one."""
    assert run(whose) == ["anonymous"]
    assert run(whose, ctx=context(owner="ab" * 16)) == ["ab" * 16]


def test_what_is_wrong_is_said() -> None:
    """An input that does not fit, a chunk that is not JSON, what is no function, and the function's own error."""
    with pytest.raises(TypeError, match="missing a required argument: 'text'"):
        run(says)
    with pytest.raises(TypeError, match="unexpected keyword argument 'tesxt'"):
        run(says, text="a", tesxt="b")
    with pytest.raises(NotJSONError):
        run(says, text=float("nan"))
    with pytest.raises(TypeError, match="is no function"):
        run(Model, word="a")


@pytest.mark.anyio
async def test_one_that_is_left_cleans_up() -> None:
    """A test that has seen enough ends the function as a cancel would."""
    left = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            left.append("cleaned up")

    chunks = stream(endless)
    assert await anext(chunks) == 1
    await chunks.aclose()
    assert left == ["cleaned up"]
