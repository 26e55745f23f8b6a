"""Telling the api what could not be loaded here."""

import asyncio
from collections.abc import Mapping

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

from plugins import entries, keys
from plugins.declaration import Broken

logger = structlog.get_logger()


async def report(redis: Redis, broken: Mapping[str, str]) -> None:
    """Say what is wrong, by source, once more. It is forgotten a minute after it was last said."""
    if not broken:
        return
    now = entries.now_ms()
    mapping: dict[FieldT, EncodableT] = {
        source: msgspec.json.encode(Broken(source, error, now)) for source, error in broken.items()
    }
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(keys.BROKEN, mapping=mapping)
        pipeline.expire(keys.BROKEN, keys.BROKEN_TTL_S)
        await pipeline.execute()


async def keep_reporting(redis: Redis, broken: Mapping[str, str], every_s: float) -> None:
    """Say it again and again, for as long as this worker lives."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await report(redis, broken)
        except RedisError as error:
            logger.warning("broken functions not reported", error=str(error))
