"""Listens to the channels for all workers, on one connection.

Messages may be lost. Each listener learns what it has missed by another way, later.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

# Seconds until the next try to subscribe.
RETRY_PAUSE_S: Final = 1

logger = structlog.get_logger()

Listener = Callable[[str], None]


async def listen(redis: Redis, listeners: Mapping[str, Listener]) -> None:
    """Pass every message to the listener of its channel, for ever; and an empty one when a channel is subscribed to."""
    while True:
        try:
            async with redis.pubsub() as pubsub:
                await pubsub.subscribe(*listeners)
                async for message in pubsub.listen():
                    payload = message["data"].decode(errors="replace") if message["type"] == "message" else ""
                    listeners[message["channel"].decode()](payload)
        except RedisError as error:
            logger.warning("subscription lost", error=str(error))
            await asyncio.sleep(RETRY_PAUSE_S)
