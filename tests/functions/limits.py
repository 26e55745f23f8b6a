"""Functions with limits, which note in a file when they begin and when they are over."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from plugins import Context, function


def _note(place: str, *said: object) -> None:
    with Path(place).open("a") as file:
        file.write(" ".join(map(str, said)) + "\n")


async def _noted(place: str, name: str, hold: float, clean_up: float = 0) -> None:
    _note(place, "+", name, time.time())
    try:
        await asyncio.sleep(hold)
    finally:
        await asyncio.sleep(clean_up)
        _note(place, "-", name, time.time())


@function(concurrency=3, retries=1)
async def three_at_once(place: str, name: str, hold: float, ctx: Context) -> AsyncIterator[int]:
    """Note the begin, wait, note the end."""
    await _noted(place, name, hold if ctx.attempt == 1 else 0)
    yield ctx.attempt


@function(concurrency=1)
async def one_at_once(place: str, name: str, hold: float, clean_up: float = 0) -> AsyncIterator[str]:
    """Note the begin, wait, clean up for a while, note the end."""
    await _noted(place, name, hold, clean_up)
    yield name


@function(concurrency=1, retries=1, backoff=2)
async def one_at_once_again(place: str, name: str, fails: bool, ctx: Context) -> AsyncIterator[str]:
    """Note the begin and the end; raise the first time, if asked to."""
    await _noted(place, f"{name}/{ctx.attempt}", 0)
    if fails and ctx.attempt == 1:
        raise RuntimeError("as asked")
    yield name


@function(concurrency=1, concurrency_key="who")
async def one_for_each(place: str, name: str, hold: float, who: str = "nobody") -> AsyncIterator[str]:
    """Note the begin, wait, note the end."""
    await _noted(place, f"{who}/{name}", hold)
    yield name


@function(rate="5/s")
async def five_a_second(place: str, name: str) -> AsyncIterator[str]:
    """Note the begin."""
    await _noted(place, name, 0)
    yield name
