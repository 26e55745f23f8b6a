"""Hearing what is said to all workers, on one connection. What was missed each listener learns otherwise, later."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

# Seconds between tries to listen again.
PAUSE_S: Final = 1

logger = structlog.get_logger()

Listener = Callable[[str], None]


async def hear(redis: Redis, listeners: Mapping[str, Listener]) -> None:
    """Pass on what is said, by channel, for ever; and an empty word whenever a channel begins to be heard."""
    while True:
        try:
            async with redis.pubsub() as pubsub:
                await pubsub.subscribe(*listeners)
                async for message in pubsub.listen():
                    said = message["data"].decode(errors="replace") if message["type"] == "message" else ""
                    listeners[message["channel"].decode()](said)
        except RedisError as error:
            logger.warning("not hearing what is said to workers", error=str(error))
            await asyncio.sleep(PAUSE_S)
