"""A lifespan is its author's code: whatever it does, the worker comes up, and goes down, in a bounded time."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from plugins.lifespan import Lifespan
from services.worker.registry import lifespan
from services.worker.registry.lifespan import Resource

pytestmark = pytest.mark.anyio

Make = Callable[[], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def never_ready() -> AsyncIterator[str]:
    """Waits for what does not come."""
    await asyncio.Event().wait()
    yield "late"


@asynccontextmanager
async def yields_nothing() -> AsyncIterator[str]:
    """Returns before it has anything."""
    if asyncio.get_running_loop() is None:
        yield ""


@asynccontextmanager
async def never_left() -> AsyncIterator[str]:
    """Cleans up for ever, and takes the first cancel for nothing."""
    yield "made"
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.Event().wait()


@asynccontextmanager
async def fails_at_the_end() -> AsyncIterator[str]:
    """Cannot clean up."""
    yield "made"
    raise ConnectionError("gone")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time for leaving."""
    monkeypatch.setattr(lifespan, "EXIT_S", 0.05)


async def test_one_that_is_never_ready() -> None:
    """It is given up after its time, which the error names with the setting."""
    with pytest.raises(TimeoutError, match=r"not ready within 0.05 s \(TAILRACE_IMPORT_S\)"):
        await Resource(Lifespan("m", never_ready, str)).enter(0.05)


async def test_one_that_is_never_ready_is_told_once() -> None:
    """Its time-out is the only error: its task leaves none behind that asyncio would log."""
    unheard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    one, before = Resource(Lifespan("m", never_ready, str)), asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await one.enter(0.05)
    await asyncio.wait(asyncio.all_tasks() - before)
    del one
    gc.collect()
    assert unheard == []


async def test_one_that_yields_nothing() -> None:
    """It is refused, as `async with` would."""
    with pytest.raises(RuntimeError, match="didn't yield"):
        await Resource(Lifespan("m", yields_nothing, str)).enter(1)


@pytest.mark.parametrize(
    ("make", "error"), [(never_left, TimeoutError), (fails_at_the_end, ConnectionError)], ids=["never", "fails"]
)
async def test_one_that_does_not_clean_up(make: Make, error: type[Exception]) -> None:
    """The worker hears of it in a bounded time, even where a cancel is swallowed."""
    one = Resource(Lifespan("m", make, str))
    await one.enter(1)
    assert one.value == "made"
    async with asyncio.timeout(5):
        with pytest.raises(error):
            await one.exit()


async def test_one_that_was_never_entered() -> None:
    """To leave it is nothing: a worker may be told to stop while it comes up."""
    await Resource(Lifespan("m", never_ready, str)).exit()
