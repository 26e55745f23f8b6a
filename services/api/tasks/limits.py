"""Limits in the API: acquire and release tickets, and enqueue the tasks that were admitted."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import keys, limits
from plugins.declaration import Declaration
from plugins.limits import Limits, Ticket, Wakeups
from plugins.message import Message
from services.api.redis_client import Call, run_script, script_call
from services.api.tasks.queue import enqueue

logger = structlog.get_logger()

_decoder: Final = msgspec.json.Decoder(Declaration)

# The declarations of functions, by name; None if a function is not announced any more.
Announced = Mapping[str, bytes | None]


def limit_key_of(declaration: Declaration, task_input: dict[str, Any]) -> str | None:
    """Return the key of the limit for a task with this input; None if its function has no limits."""
    if declaration.concurrency is None and declaration.rate is None:
        return None
    parameter = declaration.concurrency_key
    return limits.key_of(declaration.name, _value(declaration, task_input, parameter) if parameter else None)


def _value(declaration: Declaration, task_input: dict[str, Any], field: str) -> Any:
    """Return the value of this field in the input, or the field's default."""
    if field in task_input:
        return task_input[field]
    schema = declaration.input
    schema = schema.get("$defs", {}).get(schema.get("$ref", "").removeprefix("#/$defs/"), schema)
    return schema["properties"][field].get("default")


class Limiter:
    """Acquires and releases tickets. It keeps one timer for each limit whose rate admits the next ticket later."""

    def __init__(self, redis: Redis, unclaimed_s: int) -> None:
        self._redis = redis
        self._unclaimed_s = unclaimed_s
        self._wakeups = Wakeups(self._retry)

    async def acquire(self, key: str, ticket: Ticket, order: int) -> None:
        """Acquire the limit for this attempt: it is enqueued now, or waits. `order` is when its task was created (ms).

        The attempt before it is released. Acquiring twice does no harm.

        Raises:
            QueueError: the queue did not take it, or another ticket that was admitted.
        """
        await self._call(key, **_acquisition(ticket, order))

    async def release(self, key: str, tickets: Iterable[Ticket]) -> None:
        """Release these tickets, and enqueue the tasks that are admitted. Releasing twice does no harm.

        Raises:
            QueueError: the queue did not take one that was admitted.
        """
        await self._call(key, release=tickets)

    async def announced(self, limit_keys: Iterable[str]) -> Announced:
        """Return what is announced of the functions of these limits."""
        functions = sorted(set(map(keys.limited_function, limit_keys)))
        found: Any = await self._redis.hmget(keys.FUNCTIONS, functions) if functions else []
        return dict(zip(functions, found, strict=True))

    def acquire_call(self, key: str, announced: Announced, ticket: Ticket, order: int) -> Call:
        """Return the command of `acquire`; `admitted` has to read its answer.

        Raises:
            ValueError: what is announced of the function cannot be read.
        """
        arguments = self._arguments(key, announced[keys.limited_function(key)], **_acquisition(ticket, order))
        return script_call(limits.SCRIPT, **arguments)

    def admitted(self, key: str, reply: Any) -> list[Message]:
        """Return the messages of the tickets that a call has admitted, which must be enqueued."""
        decision = limits.decision_of(reply)
        self._wakeups.after(decision, key)
        function = keys.limited_function(key)
        return [Message(task_id, function, attempt) for task_id, attempt in decision.admitted]

    async def scan(self, key: str, over: Iterable[Ticket]) -> None:
        """Release the tickets that are over, as `release`, and schedule the limit's next scan if any wait.

        Raises:
            QueueError: the queue did not take one that was admitted.
        """
        await self._call(key, release=over, is_scan=True)

    async def holders(self, key: str) -> list[tuple[Ticket, int]]:
        """Return the admitted tickets, each with the time of its admission (ms), or 0 if its attempt has started."""
        low, high = limits.ADMITTED_SCORES
        members: Any = await self._redis.zrange(key, low, high, byscore=True, withscores=True)
        return [(limits.ticket_of(member), 0 if score == limits.STARTED else int(-score)) for member, score in members]

    def close(self) -> None:
        """Cancel all timers, and the calls under way that they have made."""
        self._wakeups.close()

    async def _call(self, key: str, **request: Any) -> None:
        announced: Any = await self._redis.hget(keys.FUNCTIONS, keys.limited_function(key))
        reply = await run_script(self._redis, limits.SCRIPT, **self._arguments(key, announced, **request))
        await enqueue(self._redis, self.admitted(key, reply))

    def _arguments(self, key: str, announced: bytes | None, **request: Any) -> dict[str, Any]:
        return limits.arguments(key, _limits_of(announced), scan_s=self._unclaimed_s, **request)

    async def _retry(self, key: str) -> None:
        try:
            await self._call(key)
        except RedisError as error:  # recovery scans this limit, too
            logger.warning("limit retry failed", limit=key, error=str(error))


def _acquisition(ticket: Ticket, order: int) -> dict[str, Any]:
    return {"acquire": ticket, "order": order, "release": [Ticket(ticket.task_id, ticket.attempt - 1)]}


def _limits_of(announced: bytes | None) -> Limits:
    """Return the limits as announced. A function without limits, or not announced any more, has none."""
    if announced is None:
        return Limits()
    declaration = _decoder.decode(announced)
    return limits.limits_of(declaration.concurrency, declaration.rate)
