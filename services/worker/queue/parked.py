"""Tasks that must not start here now: their function is paused, or this worker does not have it.

They leave the queue, which goes on without them, and wait in a set of their function's, in the order in which workers
met them. Who has the function puts them back on the queue as soon as it is not paused and there is a free slot: when a
worker or the api says so, and at every beat, for what was said and not heard. What gets lost on the way recovery queues
again, as ever.
"""

import asyncio
import time
from collections.abc import Container
from typing import Final

import structlog
from redis.exceptions import RedisError

from plugins import keys
from plugins.limits import ticket_of
from plugins.message import Message
from services.worker.queue.messages import command_of
from services.worker.queue.slots import Slots
from services.worker.redis_client.batcher import Batcher, Command

# Tickets that go back on the queue at once.
SLAB: Final = 500

logger = structlog.get_logger()


class Held:
    """What is held, as one worker has to do with it. `functions` are those that it has."""

    def __init__(self, batcher: Batcher, functions: Container[str], slots: Slots) -> None:
        self._batcher = batcher
        self._functions = functions
        self._slots = slots
        self._paused: frozenset[str] = frozenset()
        self._news = asyncio.Event()

    def holds(self, function: str) -> bool:
        """Whether a task of this function must not start here now, as far as this worker has heard."""
        return function in self._paused or function not in self._functions

    async def hold(self, message: Message) -> None:
        """Let the ticket of this message wait; the message can go then. Doing it twice does no harm.

        A ticket that was held before keeps its place.

        Raises:
            redis.exceptions.RedisError: Redis refused, or did not answer for as long as the client's retries last.
        """
        # In microseconds: a worker may hold several within a millisecond, and their order counts.
        function = message.function
        held, place = keys.held(function), message.held_since or time.time_ns() // 1_000
        noted: list[Command] = [
            # Its task is not kept any more: nobody comes for it.
            ("ZREMRANGEBYSCORE", held, 0, time.time_ns() // 1_000 - keys.TASK_TTL_S * 1_000_000),
            ("ZADD", held, "NX", place, str(message.ticket)),
            ("EXPIRE", held, keys.TASK_TTL_S),
            ("SADD", keys.HELD, function),
            ("EXPIRE", keys.HELD, keys.TASK_TTL_S),
        ]
        # Others may have it. Of a paused function nobody takes it up, and the api says when it is resumed.
        said: list[Command] = [] if function in self._functions else [("PUBLISH", keys.HELD_NEWS, function)]
        await self._batcher.execute([*noted, *said])
        if not self.holds(function):  # any more: it was resumed, and the look may have missed this one
            self._news.set()

    def leave(self) -> None:
        """Take up nothing more."""
        self._functions = ()

    def hear(self, _: str) -> None:
        """Something was paused, resumed, or held: look."""
        self._news.set()

    async def keep(self, every_s: float) -> None:
        """Look whenever there is news, and at every beat, for ever."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            try:
                await self.look()
            except RedisError as error:
                logger.warning("held tasks not looked at", error=str(error))

    async def look(self) -> None:
        """Learn what is paused, and take up what need not wait any more.

        Raises:
            redis.exceptions.RedisError: Redis refused, or did not answer for as long as the client's retries last.
        """
        paused, held = await self._batcher.execute([("SMEMBERS", keys.PAUSED), ("SMEMBERS", keys.HELD)])
        self._paused = frozenset(name.decode() for name in paused)
        for function in sorted(name.decode() for name in held):
            if not self.holds(function):
                await self._take_up(function)

    async def _take_up(self, function: str) -> None:
        if await self._let_go(function):
            await self._batcher.execute([("SREM", keys.HELD, function)])
            if not await self._let_go(function):  # what came before it was off the list
                await self._batcher.execute([("SADD", keys.HELD, function), ("EXPIRE", keys.HELD, keys.TASK_TTL_S)])

    async def _let_go(self, function: str) -> bool:
        """Put on the queue what there are free slots for; whether that was all.

        More would only meet workers that lack the function, and come back.
        """
        held, room = keys.held(function), self._slots.left
        while room:
            (members,) = await self._batcher.execute([("ZRANGE", held, 0, min(room, SLAB) - 1)])
            if not members:
                return True
            (since,) = await self._batcher.execute([("ZMSCORE", held, *members)])
            # In this order. Another worker may do the same at the same time: the claim drops the second message.
            messages = [
                command_of(Message(task_id, function, attempt, int(float(then))))
                for (task_id, attempt), then in zip(map(ticket_of, members), since, strict=True)
                if then is not None
            ]
            await self._batcher.execute([*messages, ("ZREM", held, *members)])
            room -= len(members)
        self._slots.when_free(self._news.set)
        return False
