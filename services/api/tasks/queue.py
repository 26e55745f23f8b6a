"""Enqueue messages."""

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from plugins import keys
from plugins.message import FIELD, Message, encode


class QueueError(RedisConnectionError):
    """The queue did not take a message, whatever the reason: its cause is the client's error."""


async def enqueue(redis: Redis, message: Message) -> None:
    """Add this message to the queue.

    Raises:
        QueueError: the queue did not take it.
    """
    try:
        await redis.xadd(keys.QUEUE, {FIELD: encode(message)})
    # If a connection drops under a write, redis-py lets more than its own errors through.
    except Exception as error:
        raise QueueError(str(error)) from error
