"""A place where tickets are parked by owner and function, and the choice among the tickets of several places."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from plugins import keys, scripts
from plugins.limits import Ticket
from plugins.message import Message
from services.worker.redis_client.batcher import Command, script_call

OLDEST: Final = scripts.read("oldest.lua", __file__)


class Place(NamedTuple):
    """An owner and a function. The function is empty if the message named none: any worker runs it."""

    owner: str
    function: str

    @classmethod
    def read(cls, member: bytes) -> Self:
        """Decode a member of the index, or a message of the channel."""
        owner, _, function = member.decode(errors="replace").partition(":")
        return cls(owner, function)

    def __str__(self) -> str:
        return f"{self.owner}:{self.function}"

    @property
    def tickets(self) -> str:
        """The key of its tickets."""
        return keys.parked_by_owner(*self)

    def oldest(self, many: int) -> Command:
        """Return the command that reads so many of its tickets, each followed by when (µs) it was parked."""
        return script_call(OLDEST, [self.tickets, keys.PARKED_BY_OWNER], [many, str(self)])


class Parked(NamedTuple):
    """A parked ticket. `since` is when it was parked, in microseconds since the epoch."""

    since: int
    place: Place
    ticket: Ticket

    @property
    def message(self) -> Message:
        """The message to put on the queue."""
        owner, function = self.place
        return Message(self.ticket.task_id, function, self.ticket.attempt, self.since, owner)


def first_that_fit(parked: Iterable[Parked], many: int, room: Counter[str]) -> list[Parked]:
    """Return the oldest of these tickets for which there is room: at most `many`, and of each owner at most its own."""
    chosen: list[Parked] = []
    taken: Counter[str] = Counter()
    for each in sorted(parked):
        owner = each.place.owner
        if len(chosen) < many and taken[owner] < room[owner]:
            taken[owner] += 1
            chosen.append(each)
    return chosen
