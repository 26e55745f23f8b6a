"""Functions that need more than one attempt."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from plugins import Context, function


@function(retries=2, backoff=0.1)
async def fails_at_first(times: int, ctx: Context) -> AsyncIterator[str]:
    """Yield two chunks and raise, so many times; then say in three chunks which attempt it is."""
    if ctx.attempt <= times:
        yield f"lost {ctx.attempt}"
        yield "lost too"
        raise ConnectionError(f"attempt {ctx.attempt}")
    for part in ("this", "is", str(ctx.attempt)):
        yield part


@function(retries=1)
async def lingers(folder: str, ctx: Context) -> AsyncIterator[int]:
    """Yield which attempt it is, and be silent; told to stop, wait for a file before going, and leave another."""
    try:
        yield ctx.attempt
        await asyncio.sleep(3_600)
    finally:
        while not await asyncio.to_thread(Path(folder, "go").exists):  # noqa: ASYNC110  # a file has no event
            await asyncio.sleep(0.01)
        await asyncio.to_thread(Path(folder, f"gone {ctx.attempt}").touch)


@function(retries=5, backoff=0, resumable=True)
async def counts_on(to: int, stumbles: list[int], ctx: Context) -> AsyncIterator[int]:
    """Count from 1 to a number, over all attempts; raise once after each of some numbers."""
    for number in range(len(ctx.yielded) + 1, to + 1):
        yield number
        if number in stumbles[ctx.attempt - 1 :]:
            raise ConnectionError(f"stumbled over {number}")
