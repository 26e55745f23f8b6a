"""Parked tasks: their function is paused, or this worker does not have it.

A parked task leaves the queue, which proceeds without it. Its ticket waits in a sorted set of its function, in the
order in which workers read the messages. A worker that has the function requeues the ticket as soon as the function is
not paused and a slot is free. Workers scan when a worker or the API publishes a change, and at regular intervals,
because a message may be lost. If a ticket is lost, recovery queues its task again.
"""

from collections.abc import Collection

import structlog

from plugins import keys
from plugins.limits import ticket_of
from plugins.message import Message
from services.worker.queue import tickets
from services.worker.queue.scans import Scans
from services.worker.queue.slots import Slots
from services.worker.queue.tickets import MAX_REQUEUED
from services.worker.redis_client.batcher import Batcher

logger = structlog.get_logger()


class Parking:
    """Parks and unparks tasks, for one worker. `functions` are the names of its functions."""

    def __init__(self, batcher: Batcher, functions: Collection[str], slots: Slots) -> None:
        self._batcher = batcher
        self._functions = functions
        self._slots = slots
        self._paused: frozenset[str] = frozenset()
        self._scans = Scans(self.scan, slots)

    def must_park(self, function: str) -> bool:
        """Return whether a task of this function must not start here now, as far as this worker knows."""
        return self.reason(function) is not None

    def reason(self, function: str) -> str | None:
        """Return why a task of this function must not start here now; None if it may."""
        if function in self._paused:
            return "function paused"
        return None if function in self._functions else "function not here"

    async def park(self, message: Message) -> None:
        """Park the ticket of this message, which may be acknowledged then. Parking twice does no harm.

        A ticket that was parked before keeps its place.
        """
        function = message.function
        commands = [tickets.park(message, keys.parked(function))]
        if function not in self._functions:
            # Another worker may have it. If it is paused instead, no worker unparks it before the API publishes that it
            # is resumed.
            commands.append(("PUBLISH", keys.FUNCTIONS_CHANGED, function))
        await self._batcher.execute(commands)
        if not self.must_park(function):  # any more: it was resumed, and the scan may have missed this ticket
            self._scans.ask()

    def stop(self) -> None:
        """Unpark nothing more."""
        self._functions = ()

    def on_functions_changed(self, _: str) -> None:
        """Scan soon: a function was paused or resumed, or a ticket was parked."""
        self._scans.ask()

    async def run(self, every_s: float) -> None:
        """Scan at every change, and after `every_s` without one."""
        await self._scans.run(every_s)

    async def scan(self) -> None:
        """Read which functions are paused, and unpark the tickets of those that are not."""
        functions = sorted(self._functions)
        exist = [("EXISTS", keys.parked(function)) for function in functions]
        paused, *parked = await self._batcher.execute([("SMEMBERS", keys.PAUSED), *exist])
        self._heed(frozenset(name.decode(errors="replace") for name in paused))
        for function, has_tickets in zip(functions, parked, strict=True):
            if has_tickets and not self.must_park(function):
                await self._requeue(function)

    def _heed(self, paused: frozenset[str]) -> None:
        if paused != self._paused:
            logger.info("paused functions changed", paused=sorted(paused))
        self._paused = paused

    async def _requeue(self, function: str) -> None:
        """Requeue as many tickets as there are free slots.

        More tickets would only be read by workers that lack the function, and be parked again.
        """
        key, room = keys.parked(function), self._slots.left
        while room and self._scans.may_requeue():
            (members,) = await self._batcher.execute([("ZRANGE", key, 0, min(room, MAX_REQUEUED) - 1)])
            if not members:
                return
            (scores,) = await self._batcher.execute([("ZMSCORE", key, *members)])
            messages = [
                Message(task_id, function, attempt, int(float(since)))
                for (task_id, attempt), since in zip(map(ticket_of, members), scores, strict=True)
                if since is not None  # else another worker has unparked it
            ]
            await self._batcher.execute([tickets.unpark(message, key) for message in messages])
            self._scans.requeued()
            room -= len(members)
        self._slots.when_free(self._scans.ask)
