"""Functions for what befalls workers: they are frozen, blocked, killed, shut down, and told the same thing twice."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from plugins import Context, function


@contextmanager
def noted(folder: str, attempt: int) -> Iterator[None]:
    """Leave a file that says that this attempt has begun, and one when its clean-up has run."""
    run = f"{attempt}.{uuid4().hex}"
    Path(folder, f"begun.{run}").touch()
    try:
        yield
    finally:
        Path(folder, f"cleaned.{run}").touch()


def is_open(gate: str) -> bool:
    """Whether the test has made this file."""
    return Path(gate).exists()


def block(gate: str) -> None:
    """Let nothing else in this process run until the gate is open."""
    while not is_open(gate):
        time.sleep(0.01)


@function()
async def ticks(folder: str, to: int, every: float, ctx: Context) -> AsyncIterator[int]:
    """Count from 1 to a number."""
    with noted(folder, ctx.attempt):
        for number in range(1, to + 1):
            yield number
            await asyncio.sleep(every)


@function()
async def ticks_until(gate: str, every: float) -> AsyncIterator[int]:
    """Count from 1 until the gate is open."""
    number = 0
    while not is_open(gate):
        number += 1
        yield number
        await asyncio.sleep(every)


@function(retries=1, backoff=0)
async def ticks_again(folder: str, to: int, every: list[float], ctx: Context) -> AsyncIterator[int]:
    """Count from 1 to a number, from 1 again where another attempt is needed; each attempt at a pace of its own."""
    with noted(folder, ctx.attempt):
        for number in range(1, to + 1):
            yield number
            await asyncio.sleep(every[ctx.attempt - 1])


@function(retries=2, backoff=0, resumable=True)
async def ticks_on(folder: str, to: int, every: list[float], ctx: Context) -> AsyncIterator[int]:
    """Count from 1 to a number, over all attempts; each at a pace of its own."""
    with noted(folder, ctx.attempt):
        for number in range(len(ctx.yielded) + 1, to + 1):
            yield number
            await asyncio.sleep(every[ctx.attempt - 1])


@function()
async def is_short(chunks: int, every: float = 0.01) -> AsyncIterator[int]:
    """Yield some numbers, each in a group of its own."""
    for number in range(chunks):
        await asyncio.sleep(every)
        yield number


@function()
async def waits(folder: str, gate: str, chunks: int, ctx: Context) -> AsyncIterator[int | str]:
    """Yield some numbers, be silent until the gate is open, and yield once more."""
    with noted(folder, ctx.attempt):
        for number in range(chunks):
            yield number
        while not is_open(gate):  # noqa: ASYNC110  # a file has no event
            await asyncio.sleep(0.01)
        yield "after"


@function(retries=1, backoff=0)
async def waits_again(folder: str, gate: str, chunks: int, ctx: Context) -> AsyncIterator[int | str]:
    """The same, with another attempt where it is needed."""
    async for chunk in waits(folder, gate, chunks, ctx):
        yield chunk


@function()
async def blocks(folder: str, gate: str, ctx: Context) -> AsyncIterator[str]:
    """Yield, block the whole process until the gate is open, and yield again."""
    with noted(folder, ctx.attempt):
        yield "before"
        await asyncio.sleep(0.1)  # what was yielded leaves
        block(gate)
        yield "after"


@function(retries=1, backoff=0)
async def blocks_at_first(folder: str, gate: str, ctx: Context) -> AsyncIterator[str]:
    """The same, but for the second attempt, which does not block."""
    with noted(folder, ctx.attempt):
        yield "before"
        await asyncio.sleep(0.1)
        if ctx.attempt == 1:
            block(gate)
        yield "after"


@function(retries=2, backoff=0)
async def kills_its_worker(times: int, ctx: Context) -> AsyncIterator[str]:
    """Yield, and end the whole process, so many times; then say which attempt it is."""
    yield f"attempt {ctx.attempt}"
    await asyncio.sleep(0.2)
    if ctx.attempt <= times:
        os._exit(1)


@function(retries=2, backoff=1.5)
async def backs_off(times: int, ctx: Context) -> AsyncIterator[int]:
    """Yield as many chunks as this is an attempt, and raise, so many times."""
    for number in range(ctx.attempt):
        yield number
    if ctx.attempt <= times:
        raise ConnectionError(f"attempt {ctx.attempt}")


@function(max_chunks=5)
async def five_chunks(count: int) -> AsyncIterator[int]:
    """Yield so many numbers, though five are allowed."""
    for number in range(count):
        yield number


@function(max_bytes=1_000)
async def thousand_bytes(size: int, count: int) -> AsyncIterator[str]:
    """Yield so many strings of this size, though their entries may have a thousand bytes together."""
    for _ in range(count):
        yield "x" * size


@function(max_chunks=5, retries=2, backoff=0)
async def five_chunks_each(stumble: int, then: int, ctx: Context) -> AsyncIterator[int]:
    """Yield so many numbers and raise; at the second attempt, yield so many others."""
    for number in range(stumble if ctx.attempt == 1 else then):
        yield number
    if ctx.attempt == 1:
        raise ConnectionError("stumbled")


@function(max_chunks=5, max_bytes=1_000, retries=9, backoff=0, resumable=True)
async def five_chunks_in_all(size: int, ctx: Context) -> AsyncIterator[str]:
    """Yield two strings of this size at every attempt, and raise."""
    yield "x" * size
    yield "x" * size
    raise ConnectionError(f"attempt {ctx.attempt}")
