"""Messages in a worker: add one to the queue, deliver and acknowledge one that was read.

A delivery is a message from the moment it is read until its task is finished. Taskiq passes bytes from its broker to
its formatter, and the formatter's result to the task. Here the bytes are the number of a delivery, and the task gets
the delivery itself, with the entry to acknowledge and the slot to release.
"""

from itertools import count
from types import TracebackType
from typing import Final

from taskiq import TaskiqMessage
from taskiq.abc.broker import AsyncBroker
from taskiq.formatters.proxy_formatter import ProxyFormatter

from plugins import keys
from plugins.message import FIELD, Message, encode
from services.worker.queue.slots import Slot
from services.worker.redis_client.batcher import Command


class Delivery:
    """One message, read from the queue's entry `entry_id`. Its context releases its slot."""

    def __init__(self, entry_id: str, message: Message, slot: Slot) -> None:
        self.entry_id: Final = entry_id
        self.message: Final = message
        self._slot = slot

    def __enter__(self) -> "Delivery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slot.release()


def command_of(message: Message) -> Command:
    """Return the command that adds this message to the queue, as the API does."""
    return ("XADD", keys.QUEUE, "*", FIELD, encode(message))


def acknowledgement(delivery: Delivery) -> list[Command]:
    """Return the commands that acknowledge this delivery and delete its entry."""
    return [("XACK", keys.QUEUE, keys.QUEUE_GROUP, delivery.entry_id), ("XDEL", keys.QUEUE, delivery.entry_id)]


class Deliveries(ProxyFormatter):
    """The deliveries that were handed to Taskiq, and whose tasks it has not started."""

    def __init__(self, broker: AsyncBroker) -> None:
        super().__init__(broker)
        self._numbers = count()
        self._pending: dict[bytes, Delivery] = {}

    def register(self, delivery: Delivery) -> bytes:
        """Return the bytes that stand for this delivery. Taskiq passes them to `loads`, once."""
        number = b"%d" % next(self._numbers)
        self._pending[number] = delivery
        return number

    def loads(self, message: bytes) -> TaskiqMessage:
        """Return the call of the one Taskiq task, with the delivery that these bytes stand for."""
        delivery = self._pending.pop(message)
        return TaskiqMessage(task_id=delivery.entry_id, task_name=keys.RUN, labels={}, args=[delivery], kwargs={})
