"""Messages as a worker handles them: how one is put on the queue, and what becomes of one that was read.

A delivery is a message from the moment it is read until its task is done with. Taskiq carries bytes from its broker to
its formatter, and what the formatter makes of them to the task. Here the bytes are the number of a delivery, and the
task gets the delivery itself: with what is to be acknowledged, and the slot to be given back.
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
    """One message, read from the queue's entry `entry_id`. A context that gives its slot back."""

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
    """The command that puts this message on the queue, as the API does."""
    return ("XADD", keys.QUEUE, "*", FIELD, encode(message))


def acknowledgement(delivery: Delivery) -> list[Command]:
    """The commands that take this delivery off the queue, for good."""
    return [("XACK", keys.QUEUE, keys.QUEUE_GROUP, delivery.entry_id), ("XDEL", keys.QUEUE, delivery.entry_id)]


class Deliveries(ProxyFormatter):
    """Those that Taskiq has been given, and has not begun."""

    def __init__(self, broker: AsyncBroker) -> None:
        super().__init__(broker)
        self._numbers = count()
        self._given: dict[bytes, Delivery] = {}

    def give(self, delivery: Delivery) -> bytes:
        """What Taskiq is to hand to `loads`, once."""
        number = b"%d" % next(self._numbers)
        self._given[number] = delivery
        return number

    def loads(self, message: bytes) -> TaskiqMessage:
        """The call of the one Taskiq task with this delivery."""
        delivery = self._given.pop(message)
        return TaskiqMessage(task_id=delivery.entry_id, task_name=keys.RUN, labels={}, args=[delivery], kwargs={})
