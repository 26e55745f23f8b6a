"""A function whose log is larger than what sockets and buffers between it and a reader hold."""

from collections.abc import AsyncIterator

from plugins import function


@function()
async def bulky(chunks: int, size: int) -> AsyncIterator[str]:
    """Yield so many texts of this size, without a pause."""
    for number in range(chunks):
        yield f"{number}".ljust(size, "x")
