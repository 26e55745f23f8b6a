"""Messages in a worker: add one to the queue, pass one that was read through Taskiq, complete and acknowledge it.

Taskiq passes what its broker yields to its formatter, unread, and the formatter's result to the task. Here it is the
delivery itself, with the entry to acknowledge.
"""

from typing import Any, Final

import msgspec
from taskiq import TaskiqMessage
from taskiq.formatters.proxy_formatter import ProxyFormatter

from plugins import enqueue, keys, metadata, scripts
from plugins.message import Message
from services.worker.redis_client.batcher import Batcher, Command, script_call

ACKNOWLEDGE: Final = scripts.read("acknowledge.lua", __file__)


class Delivery(msgspec.Struct, frozen=True):
    """One message, read from the queue's entry `entry_id`. It has a slot until its task is done with."""

    entry_id: str
    message: Message


class DeliveryFormatter(ProxyFormatter):
    """Hands deliveries to the one Taskiq task."""

    def loads(self, message: Any) -> TaskiqMessage:
        """Return the call of that task with this delivery."""
        return TaskiqMessage(task_id=message.entry_id, task_name=keys.RUN, labels={}, args=[message], kwargs={})


def command_of(message: Message) -> Command:
    """Return the command that adds this message to the queue, unless it is there: as the API does."""
    return script_call(enqueue.SCRIPT, **enqueue.arguments(message))


def acknowledgement(entry_id: str) -> Command:
    """Return the command that acknowledges this entry and deletes it."""
    return script_call(ACKNOWLEDGE, [keys.QUEUE], [keys.QUEUE_GROUP, entry_id])


async def with_owner(batcher: Batcher, message: Message) -> Message:
    """Return this message with its task's owner, and its function if it names none: as the metadata say. Without an
    owner if there is no such task any more, or the owner is none of this product's.

    Raises:
        redis.exceptions.RedisError: the metadata cannot be read.
    """
    fields = (metadata.OWNER, metadata.FUNCTION)
    ((owner, function),) = await batcher.execute([("HMGET", keys.metadata(message.task_id), *fields)])
    owner, function = ((value or b"").decode(errors="replace") for value in (owner, function))
    if not keys.OWNER.fullmatch(owner):
        return message
    return msgspec.structs.replace(message, owner=owner, function=message.function or function)
