"""Functions that do what functions do on bad days, and one that storms."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from plugins import function


@function()
async def nothing() -> AsyncIterator[int]:
    """Yield nothing."""
    for number in range(0):
        yield number


@function()
async def not_json(after: int, what: str) -> AsyncIterator[Any]:
    """Yield what JSON cannot say, after some numbers that it can."""
    for number in range(after):
        yield number
    yield {"object": object(), "nan": float("nan"), "surrogate": "\ud800", "nested": [None, {"a": float("inf")}]}[what]


@function()
async def too_large(size: int) -> AsyncIterator[str]:
    """Yield a small chunk and one of this size."""
    yield "small"
    yield "x" * size


@function()
async def raises(after: int, message: str) -> AsyncIterator[int]:
    """Raise after some chunks."""
    for number in range(after):
        yield number
    raise ValueError(message)


@function()
async def exits() -> AsyncIterator[int]:
    """Try to take the whole process along."""
    yield 1
    sys.exit(42)


@function()
async def cancels_itself() -> AsyncIterator[int]:
    """Raise what only others should."""
    yield 1
    raise asyncio.CancelledError


@function(timeout=0.3)
async def slow() -> AsyncIterator[int]:
    """Take longer than it may."""
    yield 1
    await asyncio.sleep(3_600)


@function()
async def silent(note: str) -> AsyncIterator[int]:
    """Yield once, say nothing for an hour, and note in a file that the clean-up ran."""
    try:
        yield 1
        await asyncio.sleep(3_600)
    finally:
        await asyncio.sleep(0)  # a clean-up may wait, too
        await asyncio.to_thread(Path(note).write_text, "cleaned up")


@function(max_chunks=1_000_000, max_bytes=1_000_000_000)
async def eager() -> AsyncIterator[int]:
    """Yield without end and without a pause."""
    number = 0
    while True:
        yield number
        number += 1


@function(max_chunks=1_000_000, max_bytes=1_000_000_000)
async def burst(chunks: int) -> AsyncIterator[int]:
    """Yield so many numbers without a pause, and end at once."""
    for number in range(chunks):
        yield number


@function()
async def gated(gate: str, note: str) -> AsyncIterator[str]:
    """Yield once; when a file appears yield again; then be silent for an hour. Note in a file that the clean-up ran."""
    try:
        yield "before"
        while not await asyncio.to_thread(Path(gate).exists):  # noqa: ASYNC110  # a file has no event
            await asyncio.sleep(0.01)
        yield "after"
        await asyncio.sleep(3_600)
    finally:
        await asyncio.to_thread(Path(note).write_text, "cleaned up")


@function()
async def own_id(times: int) -> AsyncIterator[str]:
    """Yield this task's name, again and again, giving way each time."""
    me = asyncio.current_task()
    for _ in range(times):
        yield me.get_name() if me else ""
        await asyncio.sleep(0)


@function()
async def storm(seed: int, chunks: int) -> AsyncIterator[Any]:
    """Yield what `weather` says, in bursts."""
    pauses = random.Random(seed + 1)
    for chunk in weather(seed, chunks):
        yield chunk
        if pauses.random() < 0.1:
            await asyncio.sleep(pauses.random() / 100)


def weather(seed: int, chunks: int) -> list[Any]:
    """The chunks of a storm: numbers, texts with everything that breaks naive framing, and nested values."""
    dice = random.Random(seed)
    texts = [
        "",
        " ",
        "a\nb",
        "c\r\nd",
        "\r",
        "data: x\n\n",
        "id: 7",
        "\u2028\u2029\x85",
        "💧é\x00\ufeff",
        '"}',
        "x" * 300,
    ]
    kinds: list[Callable[[], Any]] = [
        lambda: dice.randrange(1 << 40),
        lambda: dice.choice(texts),
        lambda: {"n": dice.random(), "t": dice.choice(texts)},
        lambda: [None, True, dice.choice(texts)],
    ]
    return [dice.choice(kinds)() for _ in range(chunks)]
