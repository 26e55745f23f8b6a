"""Announce to the API which functions this worker has, and which sources it could not load."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from plugins import keys
from plugins.declaration import Broken
from services.worker.registry.registry import Registry

# Characters that say what is wrong with a source, of which many functions may be refused. JSON may need six bytes each.
MAX_ERROR: Final = 10_000


async def announce(redis: Redis, registry: Registry) -> None:
    """Write the declarations, kept for another week, and what is broken, kept for another minute."""
    now = await _now_ms(redis)
    declared: dict[FieldT, EncodableT] = {
        name: msgspec.json.encode(msgspec.structs.replace(plugin.declaration, announced_at=now))
        for name, plugin in registry.plugins.items()
    }
    broken: dict[FieldT, EncodableT] = {
        source: msgspec.json.encode(Broken(source, error[:MAX_ERROR], now)) for source, error in registry.broken.items()
    }
    hashes = [(keys.FUNCTIONS, declared, keys.FUNCTIONS_TTL_S), (keys.BROKEN, broken, keys.BROKEN_TTL_S)]
    for key, mapping, ttl_s in hashes:
        if mapping:
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(key, mapping=mapping)
                pipeline.expire(key, ttl_s)
                await pipeline.execute()


async def prune(redis: Redis) -> None:
    """Remove announcements that no worker has repeated for their lifetime: functions that were renamed, sources that
    were mended.

    The lifetime of the key does not do that, as long as anything is announced at all.
    """
    now = await _now_ms(redis)
    for key, field, ttl_s in (
        (keys.FUNCTIONS, "announced_at", keys.FUNCTIONS_TTL_S),
        (keys.BROKEN, "at", keys.BROKEN_TTL_S),
    ):
        announced: Any = await redis.hgetall(key)
        old = [name for name, value in announced.items() if _announced_at(value, field) < now - ttl_s * 1_000]
        if old:
            await redis.hdel(key, *old)


async def _now_ms(redis: Redis) -> int:
    """Return the server's time: the API, and other workers, compare theirs with it."""
    seconds, microseconds = await redis.time()
    return seconds * 1_000 + microseconds // 1_000


def _announced_at(value: bytes, field: str) -> float:
    """Return the time of an announcement: 0 if it is unreadable, infinity if it has none (of older workers)."""
    try:
        at = msgspec.json.decode(value, type=dict[str, Any]).get(field)
    # Any program may have written it: no text, or nested deeply.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    if at is None:
        return math.inf
    return at if isinstance(at, int | float) else 0


async def keep_announcing(redis: Redis, registry: Registry, every_s: float, draining: Callable[[], bool]) -> None:
    """Announce at intervals: Redis may lose its data, or another worker may write an older version.

    A worker that drains announces nothing more: its functions may be out of date by the time it has stopped.
    """
    while True:
        await asyncio.sleep(every_s)
        if not draining():
            await announce(redis, registry)
