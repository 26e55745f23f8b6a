"""The chunks of a function, whatever kind of function it is: to what runs it, each is an async generator.

| kind            | chunks            | where it runs                                                      |
|-----------------|-------------------|--------------------------------------------------------------------|
| async generator | what it yields    | in the worker's loop                                               |
| async function  | what it returns   | in the worker's loop                                               |
| generator       | what it yields    | in a thread, which waits at each `yield` until the log has the chunk |
| function        | what it returns   | in a thread                                                        |

A thread cannot be cancelled. A generator in one is told to stop at its next `yield`, where its clean-up runs.
"""

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

Chunks = Callable[..., AsyncIterator[Any]]

# What no generator yields.
END: Final = object()


def chunks_of(function: Callable[..., Any]) -> Chunks | None:
    """The function as an async generator of its chunks, or None for what is none of the four kinds."""
    if inspect.isasyncgenfunction(function):
        return function
    if inspect.iscoroutinefunction(function):
        return _awaited(function)
    if inspect.isfunction(function):
        return _in_thread(function)
    return None


def _awaited(function: Callable[..., Any]) -> Chunks:
    async def chunks(**arguments: Any) -> AsyncIterator[Any]:
        yield await function(**arguments)

    return chunks


def _in_thread(function: Callable[..., Any]) -> Chunks:
    async def chunks(**arguments: Any) -> AsyncIterator[Any]:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        # Of its own: long work waits for no other. One thread, so that the clean-up waits for the step under way.
        thread = ThreadPoolExecutor(1, thread_name_prefix="function")
        generator = _generated(function, arguments)
        try:
            while (chunk := await loop.run_in_executor(thread, partial(context.run, next, generator, END))) is not END:
                yield chunk
        finally:
            try:
                await loop.run_in_executor(thread, partial(context.run, generator.close))
            finally:
                thread.shutdown(wait=False)

    return chunks


def _generated(function: Callable[..., Any], arguments: dict[str, Any]) -> Generator[Any]:
    made = function(**arguments)
    if isinstance(made, Iterator):
        yield from made
    elif inspect.isawaitable(made) or inspect.isasyncgen(made):
        # As one does that was wrapped by a decorator which does not say so.
        raise TypeError(f"`{function.__name__}` returned a {type(made).__name__}: it must be declared with `async def`")
    else:
        yield made
