"""Putting a task on the queue."""

from typing import Any
from uuid import uuid4

from redis.typing import EncodableT, FieldT
from taskiq import TaskiqMessage
from taskiq.kicker import AsyncKicker
from taskiq_redis import RedisStreamBroker

from plugins import keys
from plugins.gate import Ticket


def message_of(queue: RedisStreamBroker, task_id: str, function: str) -> dict[FieldT, EncodableT]:
    """The message of a task of this function, for who puts it on the queue in the same trip as something else."""
    message = TaskiqMessage(
        task_id=uuid4().hex, task_name=keys.RUN, labels={"function": function}, args=[task_id], kwargs={}
    )
    return {"data": queue.formatter.dumps(message).message}


async def enqueue(queue: RedisStreamBroker, task_id: str, function: str) -> None:
    """Put the id of a task of this function on the queue.

    Raises:
        taskiq.exceptions.SendTaskError: the queue did not take it.
    """
    await _kicker(queue, function=function).kiq(task_id)


async def enqueue_ticket(queue: RedisStreamBroker, ticket: Ticket, function: str) -> None:
    """Put the id of a task that its gate has let in on the queue, for this attempt alone.

    Raises:
        taskiq.exceptions.SendTaskError: the queue did not take it.
    """
    await _kicker(queue, attempt=ticket.attempt, function=function).kiq(ticket.task_id)


def _kicker(queue: RedisStreamBroker, **labels: int | str) -> AsyncKicker[Any, Any]:
    return AsyncKicker(keys.RUN, queue, labels=labels)
