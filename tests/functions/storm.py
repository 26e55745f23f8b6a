"""Functions for the storm: their chunks follow from their input alone, so that any reader can be checked."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from plugins import Context, function


def output(seed: int, chunks: int) -> list[str]:
    """All chunks of any of these functions."""
    return [hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()[: 8 + number % 50] for number in range(chunks)]


@function()
async def once(seed: int, chunks: int, burst: int, pause: float) -> AsyncIterator[str]:
    """Yield it all, in bursts, at one attempt."""
    async for chunk in _from(0, seed, chunks, burst, pause):
        yield chunk


@function(retries=1, backoff=0.1)
async def twice(seed: int, chunks: int, burst: int, pause: float) -> AsyncIterator[str]:
    """Yield it all; after an interruption, from the start, and that once only."""
    async for chunk in _from(0, seed, chunks, burst, pause):
        yield chunk


@function(retries=5, backoff=0.1)
async def anew(seed: int, chunks: int, burst: int, pause: float) -> AsyncIterator[str]:
    """Yield it all; after an interruption, from the start."""
    async for chunk in _from(0, seed, chunks, burst, pause):
        yield chunk


@function(retries=5, backoff=0.1, resumable=True)
async def onward(seed: int, chunks: int, burst: int, pause: float, ctx: Context) -> AsyncIterator[str]:
    """Yield all chunks; after an interruption, the rest of them. The first attempts fail by themselves now and then."""
    async for chunk in _from(len(ctx.yielded), seed, chunks, burst, pause):
        yield chunk
        if ctx.attempt <= 3 and int(chunk[:4], 16) % 400 == 0:
            raise ConnectionError("stumbled")


async def _from(start: int, seed: int, chunks: int, burst: int, pause: float) -> AsyncIterator[str]:
    for number, chunk in enumerate(output(seed, chunks)[start:], start):
        yield chunk
        if number % burst == 0:
            await asyncio.sleep(pause)
