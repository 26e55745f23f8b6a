"""How much of its memory Redis uses: new tasks are refused before it is full, so that those that run go on.

Each process looks at intervals, so a POST costs no round trip more.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.api.http.problems import redis_full

# Seconds between two looks. Within them, a burst of tasks has what is left above the share.
LOOK_S: Final = 1

# With any other policy Redis evicts keys instead of refusing writes: its memory is nearly full at all times. The worker
# warns of such a policy when it starts.
REFUSING_POLICY: Final = "noeviction"

logger = structlog.get_logger()


def used_share(info: Mapping[str, Any]) -> float:
    """Return how much of its `maxmemory` Redis uses, by its `INFO memory`; 0 if it never refuses a write for that.

    Buffers for replicas and for the append-only file do not count, as Redis does not count them.
    """
    bound = info.get("maxmemory", 0)
    if not bound or info.get("maxmemory_policy", REFUSING_POLICY) != REFUSING_POLICY:
        return 0
    return float((info["used_memory"] - info.get("mem_not_counted_for_evict", 0)) / bound)


class Memory:
    """The memory of Redis as it was at the last look. `share` is the most that may be in use when a task is started."""

    def __init__(self, redis: Redis, share: float) -> None:
        self._redis = redis
        self._share = share
        self._used = 0.0

    async def run(self) -> None:
        """Look at intervals, for ever. Without an answer, what the last one said counts on."""
        while True:
            with suppress(RedisError):  # `Contact` logs that Redis does not answer
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask Redis, and log when its memory becomes full, or no longer is.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        was_full = self.full
        self._used = used_share(await self._redis.info("memory"))
        if self.full and not was_full:
            logger.error("redis is nearly full, new tasks are refused", used=f"{self._used:.0%}")
        elif was_full and not self.full:
            logger.warning("redis has room again", used=f"{self._used:.0%}")

    @property
    def full(self) -> bool:
        """Whether new tasks are refused."""
        return self._used >= self._share

    @property
    def state(self) -> str:
        """`ok`, or that new tasks are refused."""
        return "full: new tasks are refused" if self.full else "ok"

    def refuse_if_full(self) -> None:
        """Refuse a new task, if Redis has no room for it.

        Raises:
            ProblemDetailsException: 503, it has none.
        """
        if self.full:
            raise redis_full()
