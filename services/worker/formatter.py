"""Reading a message of the queue. What is not from the api is refused here, where its slot can be given back."""

from taskiq import TaskiqMessage
from taskiq.abc.broker import AsyncBroker
from taskiq.formatters.proxy_formatter import ProxyFormatter

from plugins import keys
from services.worker.slots import Slots


class StrictFormatter(ProxyFormatter):
    """Taskiq's own, which has each message that was handed over read once, before anything else.

    What it refuses Taskiq acknowledges and drops, and no task of ours is there to say so.
    """

    def __init__(self, broker: AsyncBroker, slots: Slots) -> None:
        super().__init__(broker)
        self._slots = slots

    def loads(self, message: bytes) -> TaskiqMessage:
        """The message, with its labels as what they are.

        Raises:
            ValueError: it is not from the api.
        """
        try:
            loaded = super().loads(message)
            loaded.parse_labels()
            loaded.labels_types = None  # Taskiq would do it once more
            if loaded.task_name != keys.RUN:
                raise ValueError(f"there is no task named {loaded.task_name!r}")
        except Exception:
            self._slots.give_back()
            raise
        return loaded
