"""Parked tasks: their function is paused, or this worker does not have it.

A parked task leaves the queue, which proceeds without it. Its ticket waits in a sorted set of its function, in the
order in which workers read the messages. A worker that has the function requeues the ticket as soon as the function is
not paused and a slot is free. Workers scan when a worker or the API publishes a change, and at regular intervals,
because a message may be lost. If a ticket is lost, recovery queues its task again.
"""

import asyncio
from collections.abc import Collection
from typing import Final

import structlog

from plugins import keys, scripts
from plugins.limits import ticket_of
from plugins.message import FIELD, Message, encode
from services.worker.queue.slots import Slots
from services.worker.redis_client.batcher import Batcher, Command, script_call

PARK: Final = scripts.read("park.lua", __file__)
UNPARK: Final = scripts.read("unpark.lua", __file__)

# Tickets that are requeued at once.
MAX_REQUEUED: Final = 500

logger = structlog.get_logger()


class Parking:
    """Parks and unparks tasks, for one worker. `functions` are the names of its functions."""

    def __init__(self, batcher: Batcher, functions: Collection[str], slots: Slots) -> None:
        self._batcher = batcher
        self._functions = functions
        self._slots = slots
        self._paused: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    def must_park(self, function: str) -> bool:
        """Return whether a task of this function must not start here now, as far as this worker knows."""
        return function in self._paused or function not in self._functions

    async def park(self, message: Message) -> None:
        """Park the ticket of this message, which may be acknowledged then. Parking twice does no harm.

        A ticket that was parked before keeps its place.
        """
        function = message.function
        arguments = [str(message.ticket), message.parked_since, keys.TASK_TTL_S]
        commands: list[Command] = [script_call(PARK, [keys.parked(function)], arguments)]
        if function not in self._functions:
            # Another worker may have it. If it is paused instead, no worker unparks it before the API publishes that it
            # is resumed.
            commands.append(("PUBLISH", keys.FUNCTIONS_CHANGED, function))
        await self._batcher.execute(commands)
        if not self.must_park(function):  # any more: it was resumed, and the scan may have missed this ticket
            self._changed.set()

    def stop(self) -> None:
        """Unpark nothing more."""
        self._functions = ()

    def on_functions_changed(self, _: str) -> None:
        """Scan soon: a function was paused or resumed, or a ticket was parked."""
        self._changed.set()

    async def run(self, every_s: float) -> None:
        """Scan at every change, and after `every_s` without one."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await self.scan()

    async def scan(self) -> None:
        """Read which functions are paused, and unpark the tickets of those that are not."""
        functions = sorted(self._functions)
        exist = [("EXISTS", keys.parked(function)) for function in functions]
        paused, *parked = await self._batcher.execute([("SMEMBERS", keys.PAUSED), *exist])
        self._heed(frozenset(name.decode() for name in paused))
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
        while room:
            (members,) = await self._batcher.execute([("ZRANGE", key, 0, min(room, MAX_REQUEUED) - 1)])
            if not members:
                return
            (scores,) = await self._batcher.execute([("ZMSCORE", key, *members)])
            messages = [
                Message(task_id, function, attempt, int(float(since)))
                for (task_id, attempt), since in zip(map(ticket_of, members), scores, strict=True)
                if since is not None  # else another worker has unparked it
            ]
            await self._batcher.execute([unpark(message) for message in messages])
            room -= len(members)
        self._slots.when_free(self._changed.set)


def unpark(message: Message) -> Command:
    """Return the command that takes this message's ticket out of the parked ones, and puts the message on the queue."""
    names = [keys.parked(message.function), keys.QUEUE, keys.metadata(message.task_id)]
    return script_call(UNPARK, names, [str(message.ticket), FIELD, encode(message)])
