"""Functions of every kind, and what is hard about those that run in a thread."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from plugins import Context, function

step: ContextVar[int] = ContextVar("step", default=0)


@function()
async def an_async_function(text: str) -> str:
    """Shout."""
    return text.upper()


@function()
def a_function(text: str) -> dict[str, int]:
    """Count words."""
    return {word: text.split().count(word) for word in text.split()}


@function()
def a_generator(text: str) -> Iterator[str]:
    """Say a text word by word."""
    yield from text.split()


@function()
def grows(to: int) -> Iterator[list[int]]:
    """Yield one and the same list, longer each time; and keep count where only this run can see it."""
    numbers: list[int] = []
    for _ in range(to):
        step.set(step.get() + 1)
        numbers.append(step.get())
        yield numbers


@function(timeout=1)
def ticks_in_a_thread(folder: str, every: float) -> Iterator[int]:
    """Count at this pace, for ever; leave a file when the clean-up has run."""
    number = 0
    try:
        while True:
            number += 1
            yield number
            time.sleep(every)
    finally:
        Path(folder, "cleaned up").touch()


@function(timeout=600)
def blocks_its_thread(gate: str) -> str:
    """Wait for a file, and block this thread meanwhile."""
    while not Path(gate).exists():
        time.sleep(0.01)
    return "open"


@function(retries=1)
def fails_in_a_thread(what: str, ctx: Context) -> Iterator[int]:
    """Yield which attempt it is, and fail at the first."""
    yield ctx.attempt
    if ctx.attempt == 1:
        if what == "exit":
            raise SystemExit(3)
        raise StopIteration(what)


def undeclared(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that does not say what it wraps."""

    def wrapper(count: int) -> Any:
        return decorated(count)

    wrapper.__name__ = decorated.__name__
    wrapper.__module__ = decorated.__module__
    return wrapper


@function()
@undeclared
def a_wrapped_generator(count: int) -> Iterator[int]:
    """Count."""
    yield from range(count)


@function()
@undeclared
async def a_wrapped_async_generator(count: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(count):
        yield number


def plain(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that is not async, and says what it wraps."""

    @wraps(decorated)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return decorated(*args, **kwargs)

    return wrapper


def run_at_once(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that makes an async function one that is not."""

    @wraps(decorated)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(decorated(*args, **kwargs))

    return wrapper


@function()
@plain
async def a_wrapped_async_function(text: str) -> str:
    """Shout."""
    await asyncio.sleep(0)
    return text.upper()


@function()
@plain
async def a_plainly_wrapped_async_generator(count: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(count):
        await asyncio.sleep(0)
        yield number


@function()
@run_at_once
async def an_async_function_of_its_own_loop(text: str) -> str:
    """Shout, in another loop."""
    await asyncio.sleep(0)
    return text.upper()
