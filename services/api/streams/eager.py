"""Beginning what is awaited, without a task for it.

Python 3.12 has eager tasks for this: most sends only copy bytes to a socket, and a task for each would cost more than
that.
"""

from collections.abc import Awaitable, Coroutine, Generator
from types import coroutine
from typing import Any


def begin(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run this as far as it goes without waiting. None if that was to its end; else the rest, to be awaited.

    Until it first waits it runs outside any task: what asks for the current one (a time-out, say) must come later.
    """
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    return _rest(work, waits_for)


@coroutine
def _rest(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    # What it waits for is passed on to the task that awaits this, and back what that task has for it.
    try:
        while True:
            try:
                came = yield waits_for
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is for the work
                waits_for = work.throw(error)
            else:
                waits_for = work.send(came)
    except StopIteration:
        return
