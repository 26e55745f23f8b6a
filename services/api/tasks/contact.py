"""Since when this process has been in contact with Redis, without a pause of either.

Recovery judges leases by this: while Redis was away or frozen, living workers could not renew; and after a pause of
this process (of its container, its machine) it does not know whether Redis was paused with it.
"""

import asyncio
import math
import time
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

# Seconds between two looks at the server's clock.
LOOK_S: Final = 1

logger = structlog.get_logger()


class Contact:
    """Looks at the server's clock at intervals. A clock that has moved on without a look was, or made, a pause.

    A worker renews three times within a lease. So a pause, or an outage, of less than a third of a lease takes no task
    from it.
    """

    def __init__(self, redis: Redis, lease_s: float) -> None:
        self._redis = redis
        self._tolerance_s = LOOK_S + lease_s / 3
        self._seen = -math.inf  # the server's time at the last look, in seconds
        self._since = math.inf
        self._looking = asyncio.Lock()  # an answer that is overtaken by a later one would look like a clock set back

    async def run(self) -> None:
        """Look at intervals, for ever."""
        while True:
            try:
                await self.look()
            except RedisError as error:
                logger.warning("no contact with redis", error=str(error))
            await asyncio.sleep(LOOK_S)

    async def look(self) -> int:
        """Return the server's time, in seconds.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        async with self._looking:
            seconds, microseconds = await self._redis.time()
            now = seconds + microseconds / 1_000_000
            if not 0 <= now - self._seen <= self._tolerance_s:  # a clock that was set says nothing either
                self._since = time.monotonic()
            self._seen = now
            return int(seconds)

    def lasts(self, seconds: float) -> bool:
        """Return whether this process has been in contact for so long, at the last look."""
        return time.monotonic() - self._since >= seconds
