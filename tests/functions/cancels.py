"""Functions that meet cancels of their own: of pools, of futures, of time-outs and groups around a `yield`."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable
from functools import wraps
from typing import Any

from plugins import Context, function


async def of_a_future() -> None:
    """Await a future that was cancelled."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def of_a_pool() -> None:
    """Await work of a pool that was closed."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    gate: concurrent.futures.Future[None] = concurrent.futures.Future()
    busy, waiting = pool.submit(gate.result), pool.submit(print)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set_result(None)
    await asyncio.wrap_future(waiting)
    busy.result()


async def of_the_class() -> None:
    """Raise it."""
    raise asyncio.CancelledError("my own")


async def of_the_task() -> None:
    """Cancel the task that runs this."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(3_600)


async def of_concurrent_futures() -> None:
    """The other class of that name."""
    raise concurrent.futures.CancelledError


KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (of_a_future, of_a_pool, of_the_class, of_the_task, of_concurrent_futures)
}


@function(timeout=60, retries=1, backoff=0)
async def is_cancelled_at_first(kind: str, ctx: Context) -> AsyncIterator[int]:
    """Meet a cancel at the first attempt."""
    yield ctx.attempt
    if ctx.attempt == 1:
        await KINDS[kind]()


@function(timeout=60, max_chunks=1_000_000)
async def takes_time_out(pace: float) -> AsyncIterator[Any]:
    """Yield for half a second within a time-out of its own, at this pace; then say whether it was met."""
    number = 0
    try:
        async with asyncio.timeout(0.5):
            while True:
                yield number
                number += 1
                if pace:
                    await asyncio.sleep(pace)
    except TimeoutError:
        yield {"timed out after": number}


def plain(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that is not async."""

    @wraps(decorated)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return decorated(*args, **kwargs)

    return wrapper


is_decorated = function(name="is_decorated", timeout=60, max_chunks=1_000_000)(plain(takes_time_out))


@function(timeout=60, retries=1, backoff=0, max_chunks=2)
async def fails_while_it_cleans_up() -> AsyncIterator[int]:
    """Yield more than is allowed, and raise in the clean-up."""
    try:
        for number in range(5):
            yield number
    finally:
        raise OSError("clean-up")


@function(timeout=60, max_chunks=1_000_000)
async def has_a_group(pace: float) -> AsyncIterator[Any]:
    """Yield while a task of a group fails; then say so."""

    async def fails() -> None:
        await asyncio.sleep(0.5)
        raise ValueError("the task")

    number = 0
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            while True:
                yield number
                number += 1
                if pace:
                    await asyncio.sleep(pace)
    except* ValueError:
        pass
    yield {"failed after": number}


@function(timeout=60)
async def fails_in_a_group(depth: int, many: int) -> None:
    """Fail in tasks of nested groups."""

    async def fails(number: int) -> None:
        raise ValueError(f"the API key {number} was refused")

    async def nested(left: int) -> None:
        async with asyncio.TaskGroup() as group:
            if left:
                group.create_task(nested(left - 1))
            else:
                for number in range(many):
                    group.create_task(fails(number))

    await nested(depth)


@function(timeout=60)
async def fails_without_words() -> None:
    """Raise an exception without a message, because of another one."""
    try:
        raise ConnectionError("the socket is closed")
    except ConnectionError as error:
        raise RuntimeError from error
