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


class Slots:
    """The slots of one process: taken when a message is handed to Taskiq, freed when its task is done with."""

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

    def take(self) -> None:
        """A message is handed over."""
        self._taken += 1

    def give_back(self) -> None:
        """Its task is done with."""
        self._taken -= 1
        then, self._then = self._then, None
        if then is not None:
            then()

    def when_free(self, then: Callable[[], None]) -> None:
        """Call this once, when the next one is given back."""
        self._then = then


def granted() -> int:
    """How many there are: as `taskiq worker` was told, or would have been."""
    # Its name is what Taskiq leaves of itself before the arguments of its command.
    told = sys.argv[1:] if sys.argv[:1] == ["worker"] else ["services.worker.app:broker"]
    most = WorkerArgs.from_cli(told).max_async_tasks
    return most if most and most > 0 else sys.maxsize
