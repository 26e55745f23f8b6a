"""Telling the api what can be run here."""

import asyncio
from collections.abc import Iterable

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.typing import EncodableT, FieldT

from plugins import keys
from plugins.declaration import Declaration

logger = structlog.get_logger()


async def announce(redis: Redis, declarations: Iterable[Declaration]) -> None:
    """Write these declarations, and keep the hash for another week."""
    mapping: dict[FieldT, EncodableT] = {
        declaration.name: msgspec.json.encode(declaration) for declaration in declarations
    }
    if not mapping:
        return
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(keys.FUNCTIONS, mapping=mapping)
        pipeline.expire(keys.FUNCTIONS, keys.FUNCTIONS_TTL_S)
        await pipeline.execute()


async def keep_announcing(redis: Redis, declarations: list[Declaration], every_s: float) -> None:
    """Announce again and again: Redis may have lost its data, or another worker may have written an older version."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await announce(redis, declarations)
        except RedisError as error:
            logger.warning("functions not announced", error=str(error))
