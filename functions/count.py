"""Numbers at a pace."""

import asyncio
from collections.abc import AsyncIterator

from plugins import function


@function()
async def count(to: int, every: float = 0.0) -> AsyncIterator[int]:
    """Count from 1 up to a number, one number every so many seconds."""
    for number in range(1, to + 1):
        yield number
        await asyncio.sleep(every)
