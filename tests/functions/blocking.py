"""Functions that do not let go of their process. Each leaves a file when it has begun not to."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from plugins import function


@function()
async def threaded(note: str) -> AsyncIterator[int]:
    """Yield once, and leave a thread behind that cannot be stopped."""
    yield 1
    await asyncio.to_thread(_hold, note)


@function()
async def blocking(note: str) -> AsyncIterator[int]:
    """Yield once, and hold the whole event loop."""
    yield 1
    await asyncio.sleep(0.1)  # let the chunk leave
    _hold(note)


def _hold(note: str) -> None:
    Path(note).touch()
    time.sleep(3_600)
