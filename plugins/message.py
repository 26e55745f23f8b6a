"""The message on the queue: which task to run, of which function and owner, and which attempt its limit has admitted.

A message is one entry of the stream `keys.QUEUE`, with a single field. Its value is JSON as Taskiq writes it, so that
any Taskiq worker could read it: the name of the one Taskiq task, the id of ours as its argument, the rest as labels.
Only what this module knows is read. Labels by which Taskiq would acknowledge, time out or retry mean nothing here.
"""

import re
from typing import Any, Final
from uuid import uuid4

import msgspec

from plugins import keys
from plugins.function import FUNCTION_NAME
from plugins.limits import Ticket

# The one field of the stream's entry: taskiq-redis gives it this name.
FIELD: Final = b"data"

# Labels are numbers below these. A larger one was not written by this product.
MAX_ATTEMPT: Final = 2**31
MAX_PARKED_SINCE: Final = 2**53


class NotAMessageError(ValueError):
    """An entry of the queue that is not a message of this product: the error says why."""


class Message(msgspec.Struct, frozen=True):
    """Run the task `task_id`.

    `function` and `owner` are empty if an API of an older release has sent it; `owner` also if its sender does not know
    it. `attempt` is the one that the task's limit has admitted, 0 if the task has none. `parked_since` is when (µs
    since the epoch) the task was first parked, 0 if it was not.
    """

    task_id: str
    function: str = ""
    attempt: int = 0
    parked_since: int = 0
    owner: str = ""

    @property
    def ticket(self) -> Ticket:
        """The ticket of this attempt at the task's limit."""
        return Ticket(self.task_id, self.attempt)


class _Envelope(msgspec.Struct, frozen=True):
    """The message in Taskiq's layout. `task_id` is Taskiq's own id, for its log lines."""

    task_id: str
    task_name: str
    labels: Any
    args: list[Any]
    kwargs: dict[str, Any]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Envelope)


def encode(message: Message) -> bytes:
    """Encode a message as the value of `FIELD`."""
    labels = {
        "function": message.function,
        "attempt": message.attempt,
        "held": message.parked_since,
        "owner": message.owner,
    }
    given = {label: value for label, value in labels.items() if value}
    return _encoder.encode(_Envelope(uuid4().hex, keys.RUN, given, [message.task_id], {}))


def decode(value: bytes) -> Message:
    """Decode a value of `FIELD`. An invalid label counts as absent.

    Raises:
        NotAMessageError: it is not JSON of this form, not for `keys.RUN`, or its only argument is not a task's id.
    """
    try:
        envelope = _decoder.decode(value)
    except (ValueError, RecursionError) as error:
        raise NotAMessageError(str(error)) from error
    if envelope.task_name != keys.RUN:
        raise NotAMessageError(f"there is no task named {envelope.task_name!r}")
    if envelope.kwargs or len(envelope.args) != 1:
        raise NotAMessageError("its only argument must be the id of a task")
    (task_id,) = envelope.args
    if not isinstance(task_id, str) or not keys.TASK_ID.fullmatch(task_id):
        raise NotAMessageError(f"{task_id!r:.100} is not the id of a task")
    labels = envelope.labels if isinstance(envelope.labels, dict) else {}
    return Message(
        task_id,
        _name(labels.get("function"), FUNCTION_NAME),
        _number(labels.get("attempt"), MAX_ATTEMPT),
        _number(labels.get("held"), MAX_PARKED_SINCE),
        _name(labels.get("owner"), keys.OWNER),
    )


def _name(label: object, names: re.Pattern[str]) -> str:
    return label if isinstance(label, str) and names.fullmatch(label) else ""


def _number(label: object, end: int) -> int:
    if isinstance(label, str) and label.isascii() and label.isdecimal() and len(label) < 20:
        label = int(label)  # Taskiq's own sender, which older releases use, writes numbers as text
    return label if type(label) is int and 0 < label < end else 0
