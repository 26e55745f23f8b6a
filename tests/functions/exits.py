"""Functions whose tasks and callbacks exit."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable

from plugins import function


async def leaves() -> None:
    """Exit, a little later."""
    await asyncio.sleep(0.01)
    sys.exit(2)


async def in_gather() -> None:
    """In a task of `gather`."""
    await asyncio.gather(leaves(), asyncio.sleep(3_600))


async def in_a_group() -> None:
    """In a task of a group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(leaves())
        group.create_task(asyncio.sleep(3_600))


async def in_a_task() -> None:
    """In a task that is not awaited."""
    task = asyncio.create_task(leaves())
    await asyncio.sleep(3_600)
    await task


async def in_a_callback() -> None:
    """In a callback."""
    asyncio.get_running_loop().call_soon(sys.exit, 2)
    await asyncio.sleep(3_600)


async def in_a_timer() -> None:
    """In a timer's callback."""
    asyncio.get_running_loop().call_later(0.01, sys.exit, 2)
    await asyncio.sleep(3_600)


async def when_done() -> None:
    """In the callback of a task that is done."""
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _: sys.exit(2))
    await asyncio.sleep(3_600)


async def in_argparse() -> None:
    """In a library, in a task."""

    async def parse() -> None:
        argparse.ArgumentParser().parse_args(["--no-such-option"])

    await asyncio.gather(parse(), asyncio.sleep(3_600))


PLACES: dict[str, Callable[[], object]] = {
    place.__name__: place
    for place in (in_gather, in_a_group, in_a_task, in_a_callback, in_a_timer, when_done, in_argparse)
}


@function(timeout=60)
async def exits_elsewhere(place: str) -> AsyncIterator[str]:
    """Exit, but not where the function itself runs."""
    yield place
    await PLACES[place]()  # type: ignore[misc]  # each is a coroutine function


@function(timeout=60, retries=1, backoff=0)
async def exits_elsewhere_at_first(place: str, attempts: str) -> AsyncIterator[str]:
    """Exit at the first attempt only."""
    with open(attempts, "a") as lines:  # noqa: ASYNC230  # a line
        lines.write("one\n")
    with open(attempts) as lines:  # noqa: ASYNC230  # the same
        first = len(lines.readlines()) == 1
    if first:
        await PLACES[place]()  # type: ignore[misc]  # each is a coroutine function
    yield "again"
