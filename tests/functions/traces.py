"""Functions that leave a trace outside Redis, and one that says a lot."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from plugins import Context, function


def _write(note: str, line: str) -> None:
    with Path(note).open("a") as file:
        file.write(line)


@function()
async def noted(note: str, chunks: int, every: float) -> AsyncIterator[int]:
    """Count from 1 to a number, and write a line into a file each time one is begun."""
    await asyncio.to_thread(_write, note, "begun\n")
    for number in range(1, chunks + 1):
        yield number
        await asyncio.sleep(every)


@function(retries=1, backoff=0)
async def noted_twice(note: str, ctx: Context) -> AsyncIterator[int]:
    """Write a line into a file each time one is begun, yield the attempt, and raise the first time."""
    await asyncio.to_thread(_write, note, "begun\n")
    yield ctx.attempt
    if ctx.attempt == 1:
        raise ConnectionError


@function(max_chunks=1_000_000, max_bytes=1_000_000_000)
async def heavy(bursts: int, chunks: int, size: int) -> AsyncIterator[str]:
    """Yield so many bursts of so many chunks of this size, with a pause after each."""
    for number in range(bursts * chunks):
        yield f"{number:0{size}}"
        if number % chunks == chunks - 1:
            await asyncio.sleep(0.1)
