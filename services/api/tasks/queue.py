"""Enqueue messages."""

from redis.typing import EncodableT, FieldT
from taskiq.exceptions import SendTaskError
from taskiq.message import BrokerMessage
from taskiq_redis import RedisStreamBroker

from plugins import keys
from plugins.message import FIELD, Message, encode


def entry_of(message: Message) -> dict[FieldT, EncodableT]:
    """Return the stream's entry of this message, for a pipeline that adds it together with other commands."""
    return {FIELD: encode(message)}


async def enqueue(queue: RedisStreamBroker, message: Message) -> None:
    """Add this message to the queue.

    Raises:
        taskiq.exceptions.SendTaskError: the queue did not take it; its cause is the client's error.
    """
    sent = BrokerMessage(task_id=message.task_id, task_name=keys.RUN, message=encode(message), labels={})
    try:
        await queue.kick(sent)
    # As Taskiq's own sender does. If a connection drops under a write, redis-py lets more than its own errors through.
    except Exception as error:
        raise SendTaskError from error
