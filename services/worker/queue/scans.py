"""When a worker scans for parked tickets: at every change, and at intervals, because a message may be lost.

A worker that has room requeues a ticket. Another one may read its message first, and park it again. That does no
harm while this worker reads, too: Redis serves the readers that wait in turn. If the read of this worker hangs, on a
connection that is lost without a word, the ticket would go round between the two as fast as Redis answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from services.worker.queue.slots import Slots

# Scans that requeue tickets, between two messages that this worker reads. Of so many workers without room, each may win
# once.
MAX_IN_VAIN: Final = 100


class Scans:
    """Scans again and again, one scan at a time."""

    def __init__(self, scan: Callable[[], Awaitable[None]], slots: Slots) -> None:
        self._scan = scan
        self._slots = slots
        self._asked = asyncio.Event()
        self._in_vain = 0
        self._read_before = 0

    def ask(self) -> None:
        """Scan soon: something has changed."""
        self._asked.set()

    def ask_again(self) -> None:
        """Scan soon: a ticket was parked. If tickets go round, the next scan at the interval goes on."""
        if self._slots.messages_read != self._read_before or self._in_vain < MAX_IN_VAIN:
            self._asked.set()

    def requeued(self) -> None:
        """Note that the scan has requeued tickets."""
        if self._slots.messages_read != self._read_before:
            self._read_before, self._in_vain = self._slots.messages_read, 0
        self._in_vain += 1

    async def run(self, every_s: float) -> None:
        """Scan when asked, and after `every_s` without that."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await self._asked.wait()
            except TimeoutError:
                self._in_vain = 0
            self._asked.clear()
            await self._scan()
