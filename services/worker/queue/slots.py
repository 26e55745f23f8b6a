"""The free slots of this process. Taskiq does not expose its own count to the broker, so the queue keeps this one.

A read of as many messages as there are free slots needs one round trip. A read of more would keep messages from workers
that have room.
"""

import sys
from collections.abc import Callable
from typing import Final

from taskiq.cli.worker.args import WorkerArgs

# Messages per read: their claims share round trips, and other calls must not wait for long.
MAX_MESSAGES: Final = 100


class Slot:
    """One slot, from the moment that its message is handed to Taskiq until `release`."""

    def __init__(self, on_release: Callable[[], None]) -> None:
        self._on_release = on_release

    def release(self) -> None:
        """Give the slot back when its task is finished. Only the first call counts."""
        on_release, self._on_release = self._on_release, _do_nothing
        on_release()


def _do_nothing() -> None:
    """Replaces the callback of a slot that was released."""


class Slots:
    """The slots of one process."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._on_free: Callable[[], None] | None = None

    @property
    def left(self) -> int:
        """How many are free."""
        return max(0, self._total - self._taken)

    @property
    def free(self) -> int:
        """How many messages to read now. At least one: Taskiq asks for a message only if it has a slot for it."""
        return max(1, min(MAX_MESSAGES, self.left))

    def take(self) -> Slot:
        """Take a slot for a message that is handed over."""
        self._taken += 1
        return Slot(self._release)

    def _release(self) -> None:
        self._taken -= 1
        on_free, self._on_free = self._on_free, None
        if on_free is not None:
            on_free()

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call back once, when the next slot is released."""
        self._on_free = callback


def configured_slots() -> int:
    """Return the number of slots that the command `taskiq worker` was given, or its default."""
    # Taskiq replaces its own name in front of the arguments of its command by this word.
    arguments = sys.argv[1:] if sys.argv[:1] == ["worker"] else ["services.worker.app:broker"]
    slots = WorkerArgs.from_cli(arguments).max_async_tasks
    return slots if slots and slots > 0 else sys.maxsize
