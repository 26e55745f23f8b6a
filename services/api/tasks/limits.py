"""Limits in the API: acquire and release tickets, and enqueue the tasks that were admitted."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import keys, limits
from plugins.declaration import Declaration
from plugins.limits import Limits, Ticket, Wakeups
from plugins.message import Message
from services.api.redis_client import run_script
from services.api.tasks.queue import enqueue

logger = structlog.get_logger()

_decoder: Final = msgspec.json.Decoder(Declaration)


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
        previous = Ticket(ticket.task_id, ticket.attempt - 1)
        await self._call(key, acquire=ticket, order=order, release=[previous])

    async def release(self, key: str, tickets: Iterable[Ticket]) -> None:
        """Release these tickets, and enqueue the tasks that are admitted. Releasing twice does no harm.

        Raises:
            QueueError: the queue did not take one that was admitted.
        """
        await self._call(key, release=tickets)

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
        arguments = limits.arguments(key, await self._limits(key), scan_s=self._unclaimed_s, **request)
        decision = limits.decision_of(await run_script(self._redis, limits.SCRIPT, **arguments))
        function = keys.limited_function(key)
        await enqueue(self._redis, [Message(task_id, function, attempt) for task_id, attempt in decision.admitted])
        self._wakeups.after(decision, key)

    async def _limits(self, key: str) -> Limits:
        """Return the limits as announced now. A function without limits, or not announced any more, has none."""
        announced = await self._redis.hget(keys.FUNCTIONS, keys.limited_function(key))
        if announced is None:
            return Limits()
        declaration = _decoder.decode(announced)
        return limits.limits_of(declaration.concurrency, declaration.rate)

    async def _retry(self, key: str) -> None:
        try:
            await self._call(key)
        except RedisError as error:  # recovery scans this limit, too
            logger.warning("limit retry failed", limit=key, error=str(error))
