"""The share of a worker process's slots that tasks of one owner may hold at once.

It counts here alone, by the process's own deliveries, so it needs no round trip. It is exact: the check and what it
takes are one step of the loop.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from plugins import keys

# Per cent, unless the setting says another.
DEFAULT: Final = 80


class Shares:
    """The shares of all owners in one process. `percent` is None if nothing is set."""

    def __init__(self, slots: int, percent: int | None) -> None:
        # Rounded down, so that a slot is left for other owners; but a worker with one slot works.
        self._most: Final = max(1, slots * (percent or DEFAULT) // 100)
        self._slots = slots
        # Without authentication all clients are one owner, and a share would only leave slots empty.
        self._unbound = {keys.ANONYMOUS} if percent is None else set()
        self._taken: Counter[str] = Counter()
        self._on_release: dict[str, Callable[[], None]] = {}

    @property
    def bind(self) -> bool:
        """Whether there may be an owner that may not have all slots."""
        return self._most < self._slots

    def room(self, owner: str) -> int:
        """How many more tasks of this owner may run here."""
        most = self._slots if owner in self._unbound else self._most
        return max(0, most - self._taken[owner])

    def take(self, owner: str) -> bool:
        """Take a place in this owner's share. Return False if it has none left."""
        if not self.room(owner):
            return False
        self._taken[owner] += 1
        return True

    def release(self, owner: str) -> None:
        """Give a place back: the delivery is done with."""
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
        if callback := self._on_release.pop(owner, None):
            callback()

    def when_released(self, owner: str, callback: Callable[[], None]) -> None:
        """Call back once, when a task of this owner is done with here."""
        self._on_release[owner] = callback
