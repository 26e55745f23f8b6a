"""Telling the api what can be run here, and what could not be loaded."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

from plugins import entries, keys
from plugins.declaration import Broken
from services.worker.registry.registry import Registry

logger = structlog.get_logger()


async def announce(redis: Redis, registry: Registry) -> None:
    """Write the declarations, kept for another week, and say once more what is wrong, which is kept for a minute."""
    now = entries.now_ms()
    declared: dict[FieldT, EncodableT] = {
        name: msgspec.json.encode(msgspec.structs.replace(plugin.declaration, announced_at=now))
        for name, plugin in registry.plugins.items()
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


async def forget(redis: Redis) -> None:
    """Remove what no worker has said for as long as it is kept: functions that were renamed, faults that were mended.

    The keys' own lifetimes do not, as long as anything is said at all.
    """
    now = entries.now_ms()
    for key, field, ttl_s in (
        (keys.FUNCTIONS, "announced_at", keys.FUNCTIONS_TTL_S),
        (keys.BROKEN, "at", keys.BROKEN_TTL_S),
    ):
        said: Any = await redis.hgetall(key)
        old = [name for name, each in said.items() if _when(each, field) < now - ttl_s * 1_000]
        if old:
            await redis.hdel(key, *old)


def _when(said: bytes, field: str) -> float:
    """When it was said; never, where it is nothing of ours; still, where an older worker has not noted it."""
    try:
        return msgspec.json.decode(said, type=dict[str, Any]).get(field) or math.inf
    except msgspec.MsgspecError:
        return 0


async def keep_announcing(redis: Redis, registry: Registry, every_s: float, leaving: Callable[[], bool]) -> None:
    """Announce again and again: Redis may have lost its data, or another worker may have written an older version.

    One that is leaving says nothing more: what it has may be of yesterday.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            if not leaving():
                await announce(redis, registry)
        except RedisError as error:
            logger.warning("functions not announced", error=str(error))
