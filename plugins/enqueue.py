"""The text of `enqueue.lua`. Both services call it themselves."""

from typing import Any, Final

from plugins import keys, scripts
from plugins.message import FIELD, Message, encode

SCRIPT: Final = scripts.read("enqueue.lua", __file__)


def arguments(message: Message) -> dict[str, Any]:
    """Return the arguments of the script for this message."""
    return {
        "keys": [
            keys.QUEUE,
            keys.metadata(message.task_id),
            keys.parked(message.function),
            keys.PARKED_BY_OWNER,
        ],
        "args": [FIELD, encode(message), str(message.ticket), keys.TASK_TTL_S],
    }
