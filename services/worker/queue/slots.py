"""How many more tasks this process has room for. Taskiq counts them, too, and does not tell its broker.

Reading as many messages as there are free slots takes a round trip for all of them; reading more would keep them from
workers that have room.
"""

import sys
from collections.abc import Callable
from typing import Final

from taskiq.cli.worker.args import WorkerArgs

# Messages per read: their claims share round trips, and others' must not wait for long.
MOST: Final = 100


class Slot:
    """One slot, from the moment that its message is handed to Taskiq until `release`."""

    def __init__(self, released: Callable[[], None]) -> None:
        self._released = released

    def release(self) -> None:
        """Its task is done with. Only the first call counts."""
        released, self._released = self._released, _already
        released()


def _already() -> None:
    """The slot is free."""


class Slots:
    """The slots of one process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._then: Callable[[], None] | None = None

    @property
    def left(self) -> int:
        """How many are free."""
        return max(0, self._most - self._taken)

    @property
    def free(self) -> int:
        """How many messages to read now. At least one: who reads has been given a slot."""
        return max(1, min(MOST, self.left))

    def take(self) -> Slot:
        """A slot for a message that is handed over."""
        self._taken += 1
        return Slot(self._given_back)

    def _given_back(self) -> None:
        self._taken -= 1
        then, self._then = self._then, None
        if then is not None:
            then()

    def when_free(self, then: Callable[[], None]) -> None:
        """Call `then` once, when the next slot is released."""
        self._then = then


def granted() -> int:
    """How many there are: as `taskiq worker` was told, or would have been."""
    # Its name is what Taskiq leaves of itself before the arguments of its command.
    told = sys.argv[1:] if sys.argv[:1] == ["worker"] else ["services.worker.app:broker"]
    most = WorkerArgs.from_cli(told).max_async_tasks
    return most if most and most > 0 else sys.maxsize
