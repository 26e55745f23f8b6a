"""Run a coroutine without a task until it blocks.

Python 3.12 has eager tasks for this. Most sends only copy bytes to a socket, and a task for each would cost more than
that.
"""

from collections.abc import Awaitable, Coroutine, Generator
from types import coroutine
from typing import Any


def run_until_blocked(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run the coroutine until it blocks. Return None if it has finished; else its rest, to be awaited.

    Until it first blocks it runs outside any task: code that needs the current task (a time-out, for example) must come
    later.
    """
    try:
        blocked_on = work.send(None)
    except StopIteration:
        return None
    return _rest(work, blocked_on)


@coroutine
def _rest(work: Coroutine[Any, Any, None], blocked_on: Any) -> Generator[Any, Any, None]:
    # Pass each future to the task that awaits this, and the task's result back.
    try:
        while True:
            try:
                result = yield blocked_on
            except BaseException as error:  # noqa: BLE001  # whatever it is, the coroutine handles it
                blocked_on = work.throw(error)
            else:
                blocked_on = work.send(result)
    except StopIteration:
        return
