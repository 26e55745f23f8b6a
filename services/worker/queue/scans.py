"""When a worker scans for parked tickets: at every change, and at intervals, because a message may be lost."""

import asyncio
from collections.abc import Awaitable, Callable


class Scans:
    """Scans again and again, one scan at a time."""

    def __init__(self, scan: Callable[[], Awaitable[None]]) -> None:
        self._scan = scan
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Scan soon: something has changed."""
        self._asked.set()

    async def run(self, every_s: float) -> None:
        """Scan when asked, and after `every_s` without that."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            await self._scan()
