"""Functions with large logs: larger than what sockets and buffers between them and a reader hold, or without end."""

from collections.abc import AsyncIterator

from plugins import function


@function(max_chunks=1_000_000, max_bytes=1_000_000_000)
async def bulky(chunks: int, size: int) -> AsyncIterator[str]:
    """Yield so many texts of this size, without a pause."""
    for number in range(chunks):
        yield f"{number}".ljust(size, "x")


@function()
async def never_ends(size: int) -> AsyncIterator[str]:
    """Yield texts of this size for ever, as far as the limits let it that a function has by default."""
    while True:
        yield "x" * size
