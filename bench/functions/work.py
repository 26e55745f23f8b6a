"""Functions that do as little as a function can, so that what is measured is all around them."""

import asyncio
from collections.abc import AsyncIterator

from bench.work import Work, chunks_of
from plugins import function


@function(max_chunks=10_000_000, max_bytes=10_000_000_000)
async def publish(port: int, chunks: int, rate: float) -> AsyncIterator[str]:
    """Connect to this port and wait for a byte; then yield so many chunks at this rate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.read(1)
        async for chunk in chunks_of(Work(chunks, rate)):
            yield chunk
    finally:
        writer.close()


@function()
async def nothing() -> AsyncIterator[int]:
    """Yield nothing."""
    for number in range(0):
        yield number


@function()
async def one() -> AsyncIterator[int]:
    """Yield once."""
    yield 1
