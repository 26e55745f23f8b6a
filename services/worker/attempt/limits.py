"""What a worker has to do with gates: it says that an attempt has begun and when it is over, and queues who comes next.

The api lets tasks come to their gates (services/api/tasks/limits.py), and looks after those that somebody waits for.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog
from redis.exceptions import RedisError

from plugins import keys, limits
from plugins.limits import Limits, Ticket
from plugins.message import Message
from services.worker.attempt.claim import Claim
from services.worker.queue.messages import command_of
from services.worker.redis_client.batcher import Batcher, Command

# Nobody is let in: the limits are not known here.
SHUT: Final = Limits(concurrency=0)

logger = structlog.get_logger()


class Gates:
    """The gates of the tasks that run here. `known` are the limits of this worker's functions, by name."""

    def __init__(self, batcher: Batcher, known: Mapping[str, Limits]) -> None:
        self._known = known
        self._batcher = batcher
        self._script = batcher.script(limits.SCRIPT)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def leave(self, claim: Claim, after: Sequence[Command] = ()) -> None:
        """This attempt is over: whom it makes room for goes on the queue. Without effect where there is no gate.

        Doing it twice does no harm. The commands of `after` go before, in the same trip.

        Raises:
            redis.exceptions.RedisError: Redis refused, or did not answer for as long as the client's retries last.
        """
        if claim.gate:
            await self._ask(claim.gate, [claim.ticket], after)

    async def _ask(self, name: str, go: Iterable[Ticket] = (), after: Sequence[Command] = ()) -> None:
        function = keys.function_of(name)
        held_to = self._known.get(function)
        *_, reply = await self._batcher.execute(
            [*after, self._script.command(**limits.arguments(name, held_to or SHUT, go=go))]
        )
        answer = limits.answer_of(reply)
        then: list[Command] = [command_of(Message(task_id, function, attempt)) for task_id, attempt in answer.admitted]
        if held_to is None and answer.waiting:  # recovery knows the limits
            then.append(("ZADD", keys.OPEN, "XX", "LT", 0, name))
        if then:
            await self._batcher.execute(then)
        if answer.wait_ms is not None and name not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(limits.pause_s(answer.wait_ms), self._ask_again, name)

    def _ask_again(self, name: str) -> None:
        del self._timers[name]
        asking = asyncio.create_task(self._now(name))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _now(self, name: str) -> None:
        try:
            await self._ask(name)
        except RedisError as error:  # recovery looks at this gate, too
            logger.warning("gate not asked", gate=name, error=str(error))

    def close(self) -> None:
        """Ask no more."""
        for timer in self._timers.values():
            timer.cancel()
        for asking in self._asking:
            asking.cancel()
