"""Functions that make it hard to end them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from plugins import function


class UnsayableError(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        """Raise, instead."""
        raise RuntimeError("no words")


@function()
async def raises_what(what: str) -> AsyncIterator[int]:
    """Yield once, and raise something that is hard to report."""
    yield 1
    errors: dict[str, BaseException] = {
        "surrogate": ValueError("half an emoji: \ud83d"),
        "unsayable": UnsayableError(),
        "interrupt": KeyboardInterrupt("not yours to raise"),
        "base": BaseException("below all"),
        "long": ValueError("x" * 10_000_000),
    }
    raise errors[what]


@function(timeout=0.5)
async def stubborn() -> AsyncIterator[int]:
    """Do not stop, whatever one is told."""
    number = 0
    while True:
        try:
            yield number
            number += 1
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass


@function()
async def never_cleaned_up(note: str) -> AsyncIterator[int]:
    """Begin a clean-up that never ends."""
    try:
        yield 1
        await asyncio.sleep(3_600)
    finally:
        await asyncio.to_thread(Path(note).write_text, "cleaning up")
        await asyncio.sleep(3_600)
