"""A text, piece by piece."""

import asyncio
import re
from collections.abc import AsyncIterator

from plugins import function


@function()
async def words(text: str, every: float = 0.0) -> AsyncIterator[str]:
    """Say a text word by word, one every so many seconds, as a model would. The pieces joined are the text."""
    for piece in re.findall(r"\s+|\S+\s?", text):
        yield piece
        await asyncio.sleep(every)
