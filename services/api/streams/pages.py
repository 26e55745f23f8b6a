"""Read a log in pages of about `PAGE_BYTES`, though Redis counts elements; fairly among late readers.

redis-py's pool hands a freed connection to the next caller, not to the one that has waited longest: beside fifty late
readers a command used to wait for two hundred pages. So page reads leave one connection for everything else.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from plugins import keys

# Entries of a first page, at most, when their size is not known yet: 4 MiB if they are of the largest.
FIRST_PAGE_ENTRIES: Final = 16

# Bounds of the pages after it. The minimum is two: a tail reads one entry that it knows, and one that it does not. The
# larger a page, the less its round trip costs each entry: up to this maximum that can be measured.
MIN_ENTRIES: Final = 2
MAX_ENTRIES: Final = 4_096

# Bytes of a page, if its entries are as long as those of the previous one. The factor by which a page may have more
# entries than the previous one is bounded: long entries may follow a few short ones.
PAGE_BYTES: Final = 393_216
GROWTH: Final = 8


def first_entries(entry_bytes: float) -> int:
    """Return how many entries a first page has, if one has about so many bytes."""
    return max(MIN_ENTRIES, min(int(PAGE_BYTES / max(1, entry_bytes)), FIRST_PAGE_ENTRIES))


class PageSemaphore(asyncio.Semaphore):
    """Admits page reads, first come, first served. All readers of a process share one.

    Args:
        connections: the size of the pool; a single connection is shared with everything else.
        wait_timeout_s: seconds to wait for admission.
    """

    def __init__(self, connections: int, wait_timeout_s: float) -> None:
        super().__init__(max(1, connections - 1))
        self._wait_timeout_s = wait_timeout_s

    async def acquire(self) -> Literal[True]:
        """Wait for admission.

        Raises:
            redis.exceptions.ConnectionError: the time is over: Redis does not answer the reads before, or they are too
                many.
        """
        try:
            async with asyncio.timeout(self._wait_timeout_s):
                return await super().acquire()
        except TimeoutError:
            raise RedisConnectionError(f"no turn to read a page within {self._wait_timeout_s} s") from None


class Pages:
    """Reads one log. The number of entries of a page is chosen by the bytes of the previous one."""

    def __init__(
        self,
        redis: Redis,
        task_id: str,
        semaphore: AbstractAsyncContextManager[Any],
        first_size: int | None = None,
    ) -> None:
        self._redis = redis
        self._semaphore = semaphore
        self._log = keys.log(task_id)
        self._size = first_size or FIRST_PAGE_ENTRIES

    async def read(self, start: int, stop: int) -> list[bytes]:
        """Read a page of entries from `start` to `stop` (exclusive) at most. Return an empty list if there are none.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or the read was not admitted in time.
        """
        lines, _ = await self.measured(start, stop)
        return lines

    async def measured(self, start: int, stop: int) -> tuple[list[bytes], int]:
        """Read a page as `read` does. Return its entries, and how many bytes they have: it is counted once, because
        that takes long for thousands of entries.

        Raises:
            redis.exceptions.RedisError: as `read`.
        """
        async with self._semaphore:
            try:
                answer: Any = await self._redis.lrange(self._log, start, min(start + self._size, stop) - 1)
            except RedisError:
                self._size = max(MIN_ENTRIES, self._size // GROWTH)  # it may have been too much for the time-out
                raise
        lines: list[bytes] = answer
        size = sum(map(len, lines))
        if lines:
            fit = len(lines) * PAGE_BYTES // max(1, size)
            self._size = max(MIN_ENTRIES, min(fit, MAX_ENTRIES, self._size * GROWTH))
        return lines, size

    async def newest(self) -> list[bytes]:
        """Read the last entries, as many as a first page has."""
        lines: Any = await self._redis.lrange(self._log, -FIRST_PAGE_ENTRIES, -1)
        return list(lines)
