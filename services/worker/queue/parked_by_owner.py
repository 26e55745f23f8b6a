"""Tasks that are parked because their owner has its share of the slots of the worker that read their messages.

Such a task leaves the queue, so tasks of other owners start. Its ticket waits in a sorted set of its owner and
function, in the order in which workers read the messages. A worker with the function, and with room for the owner,
requeues the oldest tickets: as many as it has room for, so that no task circulates. Workers find these sets by an
index, so any worker finds the tickets of one that has died. They scan when a task of the owner is done with, when a
worker publishes a change, and at regular intervals. If a ticket is lost, recovery queues its task again.

The sets are apart by function, because a worker that lacks a function, or a paused function, must leave its tickets
where they are.
"""

from collections import Counter
from collections.abc import Collection

from plugins import keys
from plugins.limits import ticket_of
from plugins.message import Message
from services.worker.queue import tickets
from services.worker.queue.place import Parked, Place, first_that_fit
from services.worker.queue.scans import Scans
from services.worker.queue.shares import Shares
from services.worker.queue.slots import Slots
from services.worker.queue.tickets import MAX_REQUEUED
from services.worker.redis_client.batcher import Batcher, Command


class OwnerParking:
    """Admits, parks and unparks tasks by their owners, for one worker. `functions` are the names of its functions."""

    def __init__(self, batcher: Batcher, functions: Collection[str], slots: Slots, shares: Shares) -> None:
        self._batcher = batcher
        self._functions = functions
        self._slots = slots
        self._shares = shares
        self._waiting: set[str] = set()  # owners that have parked tickets which this worker may run
        self._stopped = False
        self._scans = Scans(self.scan, slots)

    def take(self, message: Message) -> bool:
        """Take a place in the owner's share for this message. Return False if it must be parked: the share is taken, or
        others of this owner wait that came before.
        """
        in_turn = message.parked_since > 0 or message.owner not in self._waiting
        return not message.owner or (in_turn and self._shares.take(message.owner))

    def release(self, message: Message) -> None:
        """Give that place back."""
        if message.owner:
            self._shares.release(message.owner)

    async def park(self, message: Message) -> None:
        """Park the ticket of this message, which may be acknowledged then. Parking twice does no harm."""
        place = Place(message.owner, message.function)
        self._waiting.add(place.owner)
        index = {"index": keys.PARKED_BY_OWNER, "place": str(place), "channel": keys.OWNERS_CHANGED}
        await self._batcher.execute([tickets.park(message, place.tickets, **index)])
        self.on_owners_changed(str(place))

    def stop(self) -> None:
        """Unpark nothing more."""
        self._stopped = True

    def on_functions_changed(self, _: str) -> None:
        """Scan soon: a function was paused or resumed."""
        self._scans.ask()

    def on_owners_changed(self, place: str) -> None:
        """Scan as soon as there is room for the owner in this place, where a ticket was parked."""
        owner = Place.read(place.encode()).owner
        if self._shares.room(owner):
            self._scans.ask()
        else:
            self._shares.when_released(owner, self._scans.ask)

    async def run(self, every_s: float) -> None:
        """Scan now, at every change, and after `every_s` without one."""
        self._scans.ask()
        await self._scans.run(every_s)

    async def scan(self) -> None:
        """Unpark tickets of every owner that has room here, the oldest first, as many as there are free slots."""
        places = await self._places()
        self._waiting = {place.owner for place in places}
        for owner in self._waiting:
            self._shares.when_released(owner, self._scans.ask)
        left, room = self._slots.left, Counter({owner: self._shares.room(owner) for owner in self._waiting})
        while self._scans.may_requeue() and (fitting := [place for place in places if room[place.owner]]):
            if not left:
                self._slots.when_free(self._scans.ask)
                return
            many = min(left, MAX_REQUEUED)
            looked_at = fitting[:many]  # each has a ticket, or has lost it just now
            parked = await self._oldest([(place, min(many, room[place.owner])) for place in looked_at])
            empty = set(looked_at) - {each.place for each in parked}
            places = [place for place in places if place not in empty]
            self._waiting -= {place.owner for place in empty} - {place.owner for place in places}
            unparked = await self._unpark(first_that_fit(parked, many, room))
            left -= len(unparked)
            room -= Counter(each.place.owner for each in unparked)

    async def _places(self) -> list[Place]:
        """Return the places with tickets that may run here, that of the oldest first."""
        if self._stopped:
            return []
        commands: list[Command] = [("SMEMBERS", keys.PAUSED), ("ZRANGE", keys.PARKED_BY_OWNER, 0, -1)]
        paused, members = await self._batcher.execute(commands)
        runnable = {"", *self._functions} - {name.decode(errors="replace") for name in paused}
        return [place for place in map(Place.read, members) if place.function in runnable]

    async def _oldest(self, wanted: list[tuple[Place, int]]) -> list[Parked]:
        """Return so many tickets of each place."""
        answers = await self._batcher.execute([place.oldest(many) for place, many in wanted])
        return [
            Parked(int(float(since)), place, ticket_of(member))
            for (place, _), answer in zip(wanted, answers, strict=True)
            for member, since in zip(answer[::2], answer[1::2], strict=True)
        ]

    async def _unpark(self, chosen: list[Parked]) -> list[Parked]:
        """Put the messages of these tickets on the queue. Return those that no other worker has put there."""
        if not chosen:
            return []
        answers = await self._batcher.execute([tickets.unpark(each.message, each.place.tickets) for each in chosen])
        self._scans.requeued()
        return [each for each, answer in zip(chosen, answers, strict=True) if answer]
