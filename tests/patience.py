"""A test that hangs: given up, and told where it was."""

import asyncio
import functools
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

# Seconds: longer than the deadlines of one test together, and shorter than what ends the run.
PATIENCE_S: Final = 100


def given_up(test: Callable[..., Awaitable[None]], after_s: float = PATIENCE_S) -> Callable[..., Awaitable[None]]:
    """This test, which is cancelled when it takes longer, and prints what every task of its loop waits for.

    anyio cancels again and again: one cancel may be swallowed, as `asyncio.wait_for` in Python 3.11 does.

    Raises:
        TimeoutError: It took longer.
    """

    @functools.wraps(test)
    async def patient(*args: Any, **given: Any) -> None:
        loop = asyncio.get_running_loop()
        telling = loop.call_later(after_s, tell)
        try:
            with anyio.fail_after(after_s + 1):
                try:
                    await test(*args, **given)
                except asyncio.CancelledError:
                    traceback.print_exc()
                    raise
        finally:
            telling.cancel()

    return patient


def tell() -> None:
    """Print where the tasks of this loop are."""
    for task in asyncio.all_tasks():
        task.print_stack()
