"""The queue, and the messages on it."""

from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT
from taskiq import TaskiqMessage
from taskiq_redis import RedisStreamBroker

from plugins import keys
from plugins.message import FIELD, Message, encode
from tests.support.waiting import until


async def drained(redis: Redis) -> None:
    """Wait until the queue is empty, and no worker holds a message."""
    await queue_empty(redis)
    assert (await redis.xpending(keys.QUEUE, keys.QUEUE_GROUP))["pending"] == 0


def message(task_id: str, function: str = "", attempt: int = 0) -> dict[FieldT, EncodableT]:
    """The message that the api puts on the queue for a task."""
    return {FIELD: encode(Message(task_id, function, attempt))}


def raw(said: TaskiqMessage) -> dict[FieldT, EncodableT]:
    """A message as it stands on the queue."""
    return {"data": RedisStreamBroker("redis://unused").formatter.dumps(said).message}


async def queue_empty(redis: Redis) -> None:
    """Wait until the queue is empty."""

    async def empty() -> bool:
        return await redis.xlen(keys.QUEUE) == 0

    await until(empty, "the queue is empty")
