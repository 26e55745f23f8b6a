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
        self._messages_read = 0

    def ask(self) -> None:
        """Scan soon: something has changed."""
        self._asked.set()

    def may_requeue(self) -> bool:
        """Return whether a scan may requeue tickets; not if they only go round, until the interval is over."""
        if self._slots.messages_read != self._messages_read:
            self._messages_read, self._in_vain = self._slots.messages_read, 0
        return self._in_vain < MAX_IN_VAIN

    def requeued(self) -> None:
        """Note that a scan has requeued tickets."""
        self._in_vain += 1

    async def run(self, every_s: float) -> None:
        """Scan when asked, and after `every_s` without that."""
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await self._asked.wait()
            except TimeoutError:
                pass
            if loop.time() >= renewed_at + every_s:
                self._in_vain, renewed_at = 0, loop.time()
            self._asked.clear()
            await self._scan()
