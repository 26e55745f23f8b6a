"""Scripts, sent by their text.

By its hash, a script must first be loaded; and during a failover the connections of a pool lead to two servers, one of
which may have it. A kilobyte more per call is less than what there is to know about that.
"""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis


async def run(redis: Redis, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
    """The script's answer.

    Raises:
        redis.exceptions.RedisError: Redis refused, or could not be reached.
    """
    return await redis.eval(script, len(keys), *keys, *args)
