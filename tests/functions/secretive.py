"""Functions that fail with a text which no reader should see, and with one that is for readers."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic import BaseModel, field_serializer

from plugins import Context, Failure, function

SECRET = "postgres://app:Canary@db"


class OutOfCredit(Failure):
    """A kind of failure that callers know."""


class Closed(BaseModel):
    """It does not let itself be written."""

    x: int = 1

    @field_serializer("x")
    def written(self, _: int) -> int:
        """Fail."""
        raise ValueError(SECRET)


def caused() -> BaseException:
    """A failure without words, whose cause has some."""
    failure = Failure()
    failure.__cause__ = ValueError(SECRET)
    return failure


def noted() -> BaseException:
    """A failure to which a library has added a note."""
    failure = Failure("the model is overloaded")
    failure.add_note(SECRET)
    return failure


ERRORS: dict[str, Callable[[], BaseException]] = {
    "an exception": lambda: ValueError(SECRET),
    "a failure": lambda: Failure("the model is overloaded"),
    "a failure with a note": noted,
    "a kind of failure": lambda: OutOfCredit("no credit is left"),
    "a failure without words": caused,
    "failures": lambda: ExceptionGroup(SECRET, [Failure("one"), ExceptionGroup(SECRET, [OutOfCredit("two")])]),
    "a failure and an exception": lambda: ExceptionGroup(SECRET, [Failure("one"), KeyError(SECRET)]),
    "an exit": lambda: SystemExit(SECRET),
}


@function()
async def secretive(what: str) -> AsyncIterator[int]:
    """Fail in this way after a chunk."""
    yield 1
    raise ERRORS[what]()


@function()
def secretive_in_a_thread(what: str) -> None:
    """Fail in this way, in a thread."""
    raise ERRORS[what]()


@function()
async def secretive_chunk() -> AsyncIterator[Any]:
    """Yield what does not let itself be written."""
    yield Closed()


@function()
async def secretive_exit() -> None:
    """Exit in a callback."""
    asyncio.get_running_loop().call_soon(sys.exit, SECRET)
    await asyncio.sleep(3_600)


@function(retries=1, backoff=0.01)
async def secretive_at_first(context: Context) -> int:
    """Fail once."""
    if context.attempt == 1:
        raise ValueError(SECRET)
    return context.attempt
