"""Late readers take turns at the connections to Redis, and leave one for everything else.

redis-py's pool serves whoever comes when a connection is free, not who has waited longest: beside fifty late readers a
command used to wait for two hundred pages.
"""

import asyncio
from types import TracebackType

from redis.exceptions import ConnectionError as RedisConnectionError


class Turns:
    """A context in which one reads a page, first come, first served. All readers of a process share one.

    Args:
        connections: As many as there are; a single one is shared with everything else.
        patience_s: Seconds to wait for a turn.

    Entering raises:
        redis.exceptions.ConnectionError: One's turn has not come in that time: Redis does not answer those before, or
            they are too many.
    """

    def __init__(self, connections: int, patience_s: float) -> None:
        self._free = asyncio.Semaphore(max(1, connections - 1))
        self._patience_s = patience_s

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._free.acquire()
        except TimeoutError:
            raise RedisConnectionError(f"no turn to read a page within {self._patience_s} s") from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.release()
