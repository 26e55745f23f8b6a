"""A Redis that evicts keys loses logs, of running tasks too. Whoever runs one so is told, loudly."""

from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

# The one policy that evicts nothing: what does not fit is refused, and waited for.
# (https://redis.io/docs/latest/develop/reference/eviction/)
SAFE: Final = "noeviction"

logger = structlog.get_logger()


async def warn(redis: Redis) -> None:
    """Log an error where this Redis would evict. One that does not say is left alone."""
    try:
        policy = (await redis.info("memory")).get("maxmemory_policy", SAFE)
    except RedisError as error:
        logger.warning("eviction policy unknown", error=str(error))
        return
    if policy != SAFE:
        logger.error(
            "this Redis evicts: when it is full, logs of running tasks vanish. Set `maxmemory-policy noeviction`",
            policy=policy,
        )
