"""What all parked tickets have in common: the commands that park them and put their messages back on the queue."""

from typing import Final

from plugins import keys, scripts
from plugins.message import FIELD, Message, encode
from services.worker.redis_client.batcher import Command, script_call

PARK: Final = scripts.read("park.lua", __file__)
UNPARK: Final = scripts.read("unpark.lua", __file__)

# Tickets that are requeued at once.
MAX_REQUEUED: Final = 500


def park(message: Message, tickets: str, *, index: str = "", place: str = "", channel: str = "") -> Command:
    """Return the command that adds this message's ticket to this set. Parking twice does no harm: a ticket that was
    parked before keeps its place.

    With an `index`, this set is its `place`, and the workers are told on this channel.
    """
    arguments = [str(message.ticket), message.parked_since, keys.TASK_TTL_S]
    if not index:
        return script_call(PARK, [tickets], arguments)
    return script_call(PARK, [tickets, index], [*arguments, place, channel])


def unpark(message: Message, tickets: str) -> Command:
    """Return the command that takes this message's ticket out of this set, and puts the message on the queue. It
    answers 1, or 0 if another worker has done so.
    """
    names = [tickets, keys.QUEUE, keys.metadata(message.task_id)]
    return script_call(UNPARK, names, [str(message.ticket), FIELD, encode(message)])
