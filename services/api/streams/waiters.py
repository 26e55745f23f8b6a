"""The waiters of one stream, woken some at a time: then everything else in the process gets its turn."""

import asyncio
from typing import Final, Protocol

# Woken at once: other streams come first of all.
MAX_WOKEN: Final = 128


class Waiter(Protocol):
    """Waits for new frames of a stream."""

    def wake(self) -> None:
        """Check for new frames, or a heartbeat. Called once for each `Waiters.add`."""


class Waiters:
    """The waiters of one tail."""

    def __init__(self) -> None:
        self._waiting: set[Waiter] = set()
        self._due: set[Waiter] = set()  # to be woken; a waiter that is added meanwhile is not among them
        self._changed = False
        self._waking = False

    def add(self, waiter: Waiter) -> None:
        """Wake it once, as soon as there may be new frames, or a heartbeat passes."""
        self._waiting.add(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Do not wake it."""
        self._waiting.discard(waiter)
        self._due.discard(waiter)

    def wake_now(self, waiter: Waiter) -> None:
        """Wake it at once, if it waits."""
        if waiter in self._waiting or waiter in self._due:
            self.remove(waiter)
            waiter.wake()

    async def changed(self) -> None:
        """Wait until there may be new frames, or a heartbeat passes."""
        waiter = _EventWaiter()
        self.add(waiter)
        try:
            await waiter.wait()
        finally:
            self.remove(waiter)

    def notify(self) -> None:
        """Wake all that wait now, soon."""
        self._changed = True
        if not self._waking:
            self._waking = True
            # Not at once: entries that were published together arrive together, and are sent together.
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        if not self._due and self._changed:
            self._changed = False
            self._due, self._waiting = self._waiting, set()
        if not self._due:
            self._waking = False
            return
        asyncio.get_running_loop().call_soon(self._wake_some)
        for _ in range(min(MAX_WOKEN, len(self._due))):
            self._due.pop().wake()


class _EventWaiter(asyncio.Event):
    wake = asyncio.Event.set
