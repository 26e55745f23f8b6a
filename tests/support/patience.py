"""A test that hangs: given up, and told where it was."""

import asyncio
import functools
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import pytest

# Seconds before pytest-timeout would end the whole run: time to fail in, and for the fixtures to clean up.
BEFORE_S: Final = 20

# Where nothing would end it, as under a debugger.
FOREVER_S: Final = 1e9


def patience_s(item: pytest.Item) -> float:
    """How long this test may take: by its own mark, by the command line, or as all tests."""
    mark, told = item.get_closest_marker("timeout"), item.config.getoption("timeout")
    limit = float(mark.args[0] if mark else item.config.getini("timeout") if told is None else told)
    return limit - BEFORE_S if limit else FOREVER_S


def given_up(test: Callable[..., Awaitable[None]], after_s: float) -> Callable[..., Awaitable[None]]:
    """This test, which is cancelled when it takes longer, and prints what every task of its loop waits for.

    anyio cancels again and again: one cancel may be swallowed, as `asyncio.wait_for` in Python 3.11 does.

    Raises:
        TimeoutError: It took longer.
    """

    @functools.wraps(test)
    async def patient(*args: Any, **given: Any) -> None:
        telling = asyncio.get_running_loop().call_later(after_s, tell)
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
