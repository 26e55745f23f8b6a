"""Functions that do not let go of their process."""

import asyncio
import time
from collections.abc import AsyncIterator

from plugins import function


@function()
async def threaded() -> AsyncIterator[int]:
    """Yield once, and leave a thread behind that nobody can stop."""
    yield 1
    await asyncio.to_thread(time.sleep, 3_600)


@function()
async def blocking() -> AsyncIterator[int]:
    """Yield once, and hold the whole event loop."""
    yield 1
    await asyncio.sleep(0.1)  # let the chunk leave
    time.sleep(3_600)  # noqa: ASYNC251  # that is what it is for
