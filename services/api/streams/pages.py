"""Reading a log in pages of about so many bytes, though Redis counts elements; and late readers take turns at it.

redis-py's pool serves whoever comes when a connection is free, not who has waited longest: beside fifty late readers a
command used to wait for two hundred pages. So they leave a connection for everything else.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from plugins import keys

# Entries of a first page, when nothing is known of their size yet: of the largest they are 4 MiB.
FIRST: Final = 16

# Bounds of the pages after it. The least is two: a tail reads one entry that it knows, and one that it does not. The
# more in one, the less the round trip costs each: up to here that can be measured.
LEAST: Final = 2
MOST: Final = 4_096

# Bytes of a page, if its entries are as long as those of the one before. How many times as many they may be is bounded:
# what follows a few short ones may be long.
BYTES: Final = 393_216
GROWTH: Final = 8


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


class Pages:
    """Reads one log, each page as many entries as should fit it, by the page before, and each in its turn."""

    def __init__(self, redis: Redis, task_id: str, turns: AbstractAsyncContextManager[Any]) -> None:
        self._redis = redis
        self._turns = turns
        self._log = keys.log(task_id)
        self._size = FIRST
        self._ahead: asyncio.Task[list[bytes]] | None = None
        self._place = 0  # where the page that was asked for ahead begins

    async def read(self, start: int, stop: int) -> list[bytes]:
        """Entries from `start` on, not beyond `stop` (exclusive), as many as make a page; none where there are none.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or it is not one's turn in time.
        """
        async with self._turns:
            try:
                lines: Any = await self._redis.lrange(self._log, start, min(start + self._size, stop) - 1)
            except RedisError:
                self._size = max(LEAST, self._size // GROWTH)  # perhaps it was more than comes within its time-out
                raise
        if lines:
            fit = len(lines) * BYTES // max(1, sum(map(len, lines)))
            self._size = max(LEAST, min(fit, MOST, self._size * GROWTH))
        return list(lines)

    async def read_on(self, start: int, stop: int) -> list[bytes]:
        """The same, for who reads page after page: when one is answered, Redis already works at the next."""
        ahead, self._ahead = self._ahead, None
        lines = await (ahead if ahead and self._place == start else self.read(start, stop))
        self._place = start + len(lines)
        if lines and self._place < stop:
            self._ahead = asyncio.ensure_future(self.read(self._place, stop))
            self._ahead.add_done_callback(_unheard)
            await asyncio.sleep(0)  # it is asked for before the caller is busy with this one
        return lines

    async def newest(self) -> list[bytes]:
        """The last entries, as many as make a first page.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        lines: Any = await self._redis.lrange(self._log, -FIRST, -1)
        return list(lines)


def _unheard(ahead: asyncio.Task[list[bytes]]) -> None:
    # Whoever wanted it may be gone. Then asyncio would report its error as one that nobody has seen.
    if not ahead.cancelled():
        ahead.exception()
