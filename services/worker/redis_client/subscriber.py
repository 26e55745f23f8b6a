"""Listens to the channels for all workers, on one connection.

Messages may be lost. Each listener learns what it has missed by another way, later.
"""

from collections.abc import Callable, Mapping

from redis.asyncio import Redis

Listener = Callable[[str], None]


async def listen(redis: Redis, listeners: Mapping[str, Listener]) -> None:
    """Pass every message to the listener of its channel; and an empty one when a channel is subscribed to.

    Raises:
        redis.exceptions.RedisError: the subscription is lost.
    """
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(*listeners)
        async for message in pubsub.listen():
            payload = message["data"].decode(errors="replace") if message["type"] == "message" else ""
            listeners[message["channel"].decode()](payload)
