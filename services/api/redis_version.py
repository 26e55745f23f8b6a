"""Whether Redis is new enough: the API starts without it, and is not ready before it is."""

import asyncio
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import redis_version

# Seconds until the next try, while Redis does not answer.
RETRY_S: Final = 1

logger = structlog.get_logger()


async def too_old(redis: Redis) -> str:
    """Return what is wrong with the version of this Redis; empty if it is new enough."""
    return redis_version.too_old(await redis.info("server"))


async def report(redis: Redis) -> None:
    """Log what is wrong with the version of this Redis, if anything is, as soon as it answers."""
    while True:
        try:
            if wrong := await too_old(redis):
                logger.error("redis cannot be used", error=wrong)
            return
        except RedisError:  # the hub logs that
            await asyncio.sleep(RETRY_S)
