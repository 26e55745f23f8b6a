"""How tests wait for what nothing tells them: they look again and again, until a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

# Seconds until what must happen has not happened. Generous: machines that run tests are busy.
DEADLINE_S: Final = 30

# Seconds between two looks.
PAUSE_S: Final = 0.01

Found = TypeVar("Found")
Details = Callable[[], Awaitable[object]]


@overload
async def until(
    look: Callable[[], Awaitable[Found | None]],
    what: str | None = None,
    *,
    deadline_s: float = DEADLINE_S,
    pause_s: float = PAUSE_S,
    details: Details | None = None,
) -> Found: ...


@overload
async def until(
    look: Callable[[], Found | None],
    what: str | None = None,
    *,
    deadline_s: float = DEADLINE_S,
    pause_s: float = PAUSE_S,
    details: Details | None = None,
) -> Found: ...


async def until(
    look: Callable[[], Any],
    what: str | None = None,
    *,
    deadline_s: float = DEADLINE_S,
    pause_s: float = PAUSE_S,
    details: Details | None = None,
) -> Any:
    """Look until there is something to see: a number, a match, True. That is what it returns.

    `look` may return an awaitable. `what` is what has to come about, in a few words: by default, the source of `look`.
    Where the test is about the very moment, it looks without a pause: `pause_s=0`.

    Raises:
        AssertionError: The deadline has passed. It says `what`, what was seen last, and the `details`, asked then.
    """
    # By the clock: in Python 3.11 `asyncio.wait_for`, with which redis-py sends, may swallow a time-out's cancel.
    over = time.monotonic() + deadline_s
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() >= over:
            more = f"\n{await details()}" if details else ""
            raise AssertionError(f"not within {deadline_s:g} s: {what or source(look)}\nseen last: {found!r}{more}")
        await asyncio.sleep(pause_s)


def source(look: Callable[[], Any]) -> str:
    """The source of what looks; for a lambda, the line it stands in."""
    try:
        return inspect.getsource(look).strip()
    except (OSError, TypeError):
        return repr(look)
