"""Any kind of function as an async generator of its chunks.

| kind            | chunks            | where it runs                                                      |
|-----------------|-------------------|--------------------------------------------------------------------|
| async generator | what it yields    | in the worker's loop                                               |
| async function  | what it returns   | in the worker's loop                                               |
| generator       | what it yields    | in a thread, which waits at each `yield` until the log has the chunk |
| function        | what it returns   | in a thread                                                        |

An async function behind a decorator that is not async is called in a thread, and runs in the loop.

A thread cannot be cancelled. A generator in a thread is closed at its next `yield`, where its clean-up runs.
"""

import asyncio
import contextvars
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from plugins.forks import end_forks

Chunks = Callable[..., AsyncGenerator[Any, None]]

# Stands for the end of a generator, which no generator yields.
END: Final = object()


def chunks_of(function: Callable[..., Any]) -> Chunks | None:
    """Return the function as an async generator of its chunks; None if it is none of the four kinds."""
    if inspect.isasyncgenfunction(function):
        return function
    if inspect.iscoroutinefunction(function):
        return _awaited(function)
    if inspect.isfunction(function):
        return _in_thread(function)
    return None


def _awaited(function: Callable[..., Any]) -> Chunks:
    async def chunks(**arguments: Any) -> AsyncGenerator[Any, None]:
        yield await function(**arguments)

    return chunks


def _in_thread(function: Callable[..., Any]) -> Chunks:
    async def chunks(**arguments: Any) -> AsyncGenerator[Any, None]:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        # An executor of its own: long work waits for no other. One thread, so that the clean-up waits for the current
        # step.
        thread = ThreadPoolExecutor(1, thread_name_prefix="function")
        generator = _generated(function, arguments)
        try:
            while (chunk := await loop.run_in_executor(thread, partial(context.run, _step, generator))) is not END:
                if inspect.isawaitable(chunk):
                    yield await chunk
                elif inspect.isasyncgen(chunk):
                    step = anext(chunk, END)
                    async with aclosing(chunk):
                        while (its := await step) is not END:
                            try:
                                yield its
                                step = anext(chunk, END)
                            except asyncio.CancelledError as cancel:  # it is raised at the inner yield
                                step = _thrown(chunk, cancel)
                else:
                    yield chunk
        finally:
            try:
                await loop.run_in_executor(thread, partial(context.run, generator.close))
            finally:
                thread.shutdown(wait=False)

    return chunks


async def _thrown(generator: AsyncGenerator[Any, Any], error: BaseException) -> Any:
    try:
        return await generator.athrow(error)
    except StopAsyncIteration:
        return END


def _step(generator: Generator[Any]) -> Any:
    with end_forks():
        return next(generator, END)


def _generated(function: Callable[..., Any], arguments: dict[str, Any]) -> Generator[Any]:
    result = function(**arguments)
    if isinstance(result, Iterator):
        yield from result
    else:
        yield result
