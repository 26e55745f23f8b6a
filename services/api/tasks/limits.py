"""Gates, as the api has to do with them: tasks come and go, and who is let in is put on the queue.

A gate is in the index of what is open as long as somebody waits before it, so that recovery looks at it: whoever was to
let the next one in may have died.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from taskiq.exceptions import SendTaskError
from taskiq_redis import RedisStreamBroker

from plugins import keys, limits
from plugins.declaration import Declaration
from plugins.limits import Answer, Limits, Ticket
from plugins.message import Message
from services.api.redis_client import run_script
from services.api.tasks.queue import enqueue

logger = structlog.get_logger()

_decoder: Final = msgspec.json.Decoder(Declaration)


def gate_of(declaration: Declaration, task_input: dict[str, Any]) -> str | None:
    """The gate that a task with this input has to pass; None where its function has no limits."""
    if declaration.concurrency is None and declaration.rate is None:
        return None
    key = declaration.concurrency_key
    return limits.name_of(declaration.name, _value(declaration, task_input, key) if key else None)


def _value(declaration: Declaration, task_input: dict[str, Any], key: str) -> Any:
    """What the input says for this field, or the field's default."""
    if key in task_input:
        return task_input[key]
    schema = declaration.input
    schema = schema.get("$defs", {}).get(schema.get("$ref", "").removeprefix("#/$defs/"), schema)
    return schema["properties"][key].get("default")


class Gates:
    """Asks gates, and puts on the queue who was let in. Asks again when the rate lets the next one in."""

    def __init__(self, redis: Redis, queue: RedisStreamBroker, unclaimed_s: int) -> None:
        self._redis = redis
        self._queue = queue
        self._unclaimed_s = unclaimed_s
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def come(self, name: str, ticket: Ticket, order: int) -> None:
        """This attempt would start: it goes on the queue, or waits. `order` is when its task was created (ms).

        The attempt before it is over. Doing it twice does no harm.

        Raises:
            taskiq.exceptions.SendTaskError: the queue did not take it, or another that was let in.
            redis.exceptions.RedisError: Redis does not answer, or refuses.
        """
        before = Ticket(ticket.task_id, ticket.attempt - 1)
        await self._ask(name, comes=ticket, order=order, go=[before])

    async def ask(self, name: str, go: Iterable[Ticket] = ()) -> Answer:
        """Let these go, and in who may come. Doing it twice does no harm.

        Raises:
            taskiq.exceptions.SendTaskError: the queue did not take one that was let in.
            redis.exceptions.RedisError: Redis does not answer, or refuses.
        """
        return await self._ask(name, go=go)

    async def inside(self, name: str) -> list[tuple[Ticket, int]]:
        """Who is in, and since when (ms); since 0 where it has begun.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or refuses.
        """
        low, high = limits.INSIDE
        members: Any = await self._redis.zrange(name, low, high, byscore=True, withscores=True)
        return [(limits.ticket_of(member), 0 if score == limits.BEGUN else int(-score)) for member, score in members]

    def close(self) -> None:
        """Ask no more."""
        for timer in self._timers.values():
            timer.cancel()
        for asking in self._asking:
            asking.cancel()

    async def _ask(self, name: str, **who: Any) -> Answer:
        arguments = limits.arguments(name, await self._limits(name), **who)
        answer = limits.answer_of(await run_script(self._redis, limits.SCRIPT, **arguments))
        if answer.waiting:
            due = limits.look_at(answer, int(time.time()), self._unclaimed_s)
            await self._redis.zadd(keys.OPEN, {name: due}, lt=True)
        for ticket in answer.admitted:
            await enqueue(self._queue, Message(ticket.task_id, keys.function_of(name), ticket.attempt))
        if answer.wait_ms is not None and name not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(limits.pause_s(answer.wait_ms), self._ask_again, name)
        return answer

    async def _limits(self, name: str) -> Limits:
        """As announced now: a function that has lost its limits, or is not known any more, holds nobody back."""
        announced = await self._redis.hget(keys.FUNCTIONS, keys.function_of(name))
        return limits.limits_of(_decoder.decode(announced)) if announced else Limits()

    def _ask_again(self, name: str) -> None:
        del self._timers[name]
        asking = asyncio.create_task(self._now(name))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _now(self, name: str) -> None:
        try:
            await self._ask(name)
        except (RedisError, SendTaskError) as error:  # recovery looks at this gate, too
            logger.warning("gate not asked", gate=name, error=str(error.__cause__ or error))
