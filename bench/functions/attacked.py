"""Functions that attacks are run on: one that is never silent, one that always is, and what costs most to take."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from plugins import function


@dataclass
class Message:
    """A message of a dialogue."""

    role: str
    content: str


@function()
async def dialogue(messages: list[Message]) -> AsyncIterator[int]:
    """Yield how many messages there are."""
    yield len(messages)


@function(max_bytes=100_000_000)
async def large(chunks: int, size: int) -> AsyncIterator[str]:
    """Yield so many chunks of this size."""
    for _ in range(chunks):
        yield "x" * size


@function()
async def silent(text: str = "") -> AsyncIterator[str]:
    """Yield nothing for a day."""
    await asyncio.sleep(86_000)
    yield text
