"""Telling the api what can be run here, and what could not be loaded."""

import asyncio

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

from plugins import entries, keys
from plugins.declaration import Broken
from services.worker.registry import Registry

logger = structlog.get_logger()


async def announce(redis: Redis, registry: Registry) -> None:
    """Write the declarations, kept for another week, and say once more what is wrong, which is kept for a minute."""
    now = entries.now_ms()
    declared: dict[FieldT, EncodableT] = {
        name: msgspec.json.encode(plugin.declaration) for name, plugin in registry.plugins.items()
    }
    broken: dict[FieldT, EncodableT] = {
        source: msgspec.json.encode(Broken(source, error, now)) for source, error in registry.broken.items()
    }
    said = [(keys.FUNCTIONS, declared, keys.FUNCTIONS_TTL_S), (keys.BROKEN, broken, keys.BROKEN_TTL_S)]
    for key, mapping, ttl_s in said:
        if mapping:
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(key, mapping=mapping)
                pipeline.expire(key, ttl_s)
                await pipeline.execute()


async def keep_announcing(redis: Redis, registry: Registry, every_s: float) -> None:
    """Announce again and again: Redis may have lost its data, or another worker may have written an older version."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await announce(redis, registry)
        except RedisError as error:
            logger.warning("functions not announced", error=str(error))
