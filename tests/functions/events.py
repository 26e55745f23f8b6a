"""Functions that say more than plain values, and that end in their own way."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio

from plugins import Context, Event, Progress, function


@function()
async def tells(name: str) -> AsyncIterator[object]:
    """A value, an event of this name, and how far it is."""
    yield 1
    yield Event(name, {"page": 1})
    yield Progress(done=1, total=3, note="one third")
    yield Progress(2)


@function(retries=1, backoff=0, resumable=True)
async def tells_again(ctx: Context) -> AsyncIterator[object]:
    """Fail at first; then yield what it is told it had yielded."""
    if ctx.attempt == 1:
        yield 1
        yield Event("page_1.read", {"n": 1})
        raise RuntimeError("as asked")
    yield [[each.name, each.data] if isinstance(each, Event) else each for each in ctx.yielded]


@function()
async def sleeps_until_told(folder: str, ctx: Context) -> AsyncIterator[str]:
    """Sleep, and end in its own way when told to."""
    yield "asleep"
    ctx.logger.info("about to sleep", folder=folder)
    await anyio.Path(folder, f"woken {await ctx.sleep_or_cancelled(3600)}").touch()
    await anyio.Path(folder, f"woken again {await ctx.sleep_or_cancelled(3600)}").touch()


@function(timeout=0.2)
async def sleeps_too_long(ctx: Context) -> AsyncIterator[bool]:
    """Sleep for longer than it may."""
    yield await ctx.sleep_or_cancelled(0.01)
    yield await ctx.sleep_or_cancelled(3600)


@function()
def asks_in_a_thread(folder: str, ctx: Context) -> Iterator[str]:
    """Work without a word, and look up between two steps."""
    yield "working"
    while not ctx.cancelled:
        time.sleep(0.01)
    Path(folder, "looked up").touch()
