"""Running a function in a test: no Redis, no worker, no api.

from plugins.testing import context, run

assert run(shout, text="hey", times=2) == ["HEY", "HEY"]
assert run(greet, ctx=context(owner="0" * 32)) == ["hello"]
"""

import asyncio
import inspect
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec

from plugins import entries, keys
from plugins.calls import chunks_of
from plugins.context import Context
from plugins.event import Event, named
from plugins.lifespan import lifespan_of


def run(function: Callable[..., Any], /, **given: Any) -> list[Any]:
    """The chunks of a function, as readers get them: JSON values, and an `Event` for each that has a name.

    `given` is its input, as Python values; nothing checks it against the schema. A `Context`, and what a `lifespan`
    makes, come by themselves, unless they are given, too.

    Raises:
        TypeError: it is no function, or `given` does not fit its parameters.
        entries.NotJSONError: a chunk is not JSON.
        Exception: whatever the function raises.
    """

    async def collect() -> list[Any]:
        async with aclosing(stream(function, **given)) as chunks:
            return [chunk async for chunk in chunks]

    return asyncio.run(collect())


async def stream(function: Callable[..., Any], /, **given: Any) -> AsyncGenerator[Any, None]:
    """The same, chunk by chunk, for a test that is async itself. To leave it is to cancel the function."""
    call = chunks_of(function)
    if call is None:
        raise TypeError(f"{function!r} is no function: `def` or `async def`, with or without `yield`")
    async with AsyncExitStack() as stack:
        given = await _made(function, stack) | given
        inspect.signature(function).bind(**given)
        async with aclosing(call(**given)) as chunks:
            seq = 0
            async for chunk in chunks:
                yield _as_read(chunk, seq)
                seq += 1


def context(
    *,
    owner: str = keys.ANONYMOUS,
    task_id: str = "0" * 32,
    attempt: int = 1,
    yielded: Iterable[Any] = (),
) -> Context:
    """Return a context as a worker would make it: for a function that depends on its owner, or on what earlier attempts
    have yielded. Pass it as the function's parameter.
    """
    return Context(task_id=task_id, attempt=attempt, owner=owner, yielded=list(yielded), logger=_Logger())


async def _made(function: Callable[..., Any], stack: AsyncExitStack) -> dict[str, Any]:
    """What a worker would give it beside its input."""
    lifespan = lifespan_of(sys.modules.get(function.__module__))
    made: dict[str, Any] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.annotation is Context:
            made[parameter.name] = context()
        elif lifespan is not None and parameter.annotation is lifespan.kind:
            made[parameter.name] = await stack.enter_async_context(lifespan.make())
    return made


def _as_read(chunk: Any, seq: int) -> Any:
    event, data = named(chunk)
    value = msgspec.json.decode(entries.decode(entries.encode(event, 1, seq, 0, data)).data)
    return value if event == "chunk" else Event(event, value)


def _writes(level: str) -> Callable[..., None]:
    def write(_: object, event: str, **fields: Any) -> None:
        getattr(logging.getLogger("function"), level)("%s %s", event, fields)

    return write


class _Logger:
    """Writes to the standard library's log, where pytest shows it."""

    debug, info, warning, error, exception = map(_writes, ("debug", "info", "warning", "error", "exception"))
