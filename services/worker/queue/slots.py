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


class Slots:
    """The slots of one process."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self.messages_read = 0
        """How many messages this process has read in all."""
        self._on_free: dict[Callable[[], None], None] = {}  # in the order of their requests

    @property
    def total(self) -> int:
        """How many there are."""
        return self._total

    @property
    def left(self) -> int:
        """How many are free."""
        return max(0, self._total - self._taken)

    @property
    def free(self) -> int:
        """How many messages to read now. At least one: Taskiq asks for a message only if it has a slot for it."""
        return max(1, min(MAX_MESSAGES, self.left))

    def take(self) -> None:
        """Take a slot for a message that has been read, and is handed to Taskiq."""
        self._taken += 1
        self.messages_read += 1

    def release(self) -> None:
        """Give a slot back: the task of its message is done with."""
        self._taken -= 1
        callbacks, self._on_free = self._on_free, {}
        for callback in callbacks:
            callback()

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call back once, when the next slot is released."""
        self._on_free[callback] = None


def configured_slots() -> int:
    """Return the number of slots that the worker's command was given, or its default."""
    # Taskiq replaces its own name in front of the arguments of its command by this word.
    arguments = sys.argv[1:] if sys.argv[:1] == ["worker"] else ["services.worker.app:broker"]
    slots = WorkerArgs.from_cli(arguments).max_async_tasks
    return slots if slots and slots > 0 else sys.maxsize
