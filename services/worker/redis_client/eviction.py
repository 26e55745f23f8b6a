"""Reports a Redis that evicts keys: it loses logs, of running tasks too."""

from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

# The one policy that evicts nothing: Redis refuses writes when it is full, and the worker waits for room.
# (https://redis.io/docs/latest/develop/reference/eviction/)
SAFE_POLICY: Final = "noeviction"

logger = structlog.get_logger()


async def warn(redis: Redis) -> None:
    """Log an error if this Redis evicts. Without an answer, or if it does not state its policy, log no error."""
    try:
        policy = (await redis.info("memory")).get("maxmemory_policy", SAFE_POLICY)
    except RedisError as error:
        logger.warning("eviction policy unknown", error=str(error))
        return
    if policy != SAFE_POLICY:
        logger.error(
            "redis evicts keys, logs of running tasks may be lost",
            maxmemory_policy=policy,
            should_be=SAFE_POLICY,
        )
