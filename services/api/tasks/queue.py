"""Enqueue messages."""

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from plugins import enqueue as rule
from plugins.message import Message


class QueueError(RedisConnectionError):
    """The queue did not take a message, whatever the reason: its cause is the client's error."""


async def enqueue(redis: Redis, messages: Sequence[Message]) -> None:
    """Add these messages to the queue, in one round trip. A message that is there, or parked, is not added again.

    Raises:
        QueueError: the queue did not take one of them.
    """
    if not messages:
        return
    try:
        async with redis.pipeline(transaction=False) as pipeline:
            for message in messages:
                names, arguments = rule.arguments(message).values()
                pipeline.eval(rule.SCRIPT, len(names), *names, *arguments)
            await pipeline.execute()
    # If a connection drops under a write, redis-py lets more than its own errors through.
    except Exception as error:
        raise QueueError(str(error)) from error
