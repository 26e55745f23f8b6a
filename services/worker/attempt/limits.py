"""Limits in a worker: release the ticket of an attempt that is over, and enqueue the tasks that this admits.

The API acquires the tickets (services/api/tasks/limits.py), and scans the limits at which tickets wait.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from redis.exceptions import RedisError

from plugins import keys, limits
from plugins.limits import Limits, Ticket, Wakeups
from plugins.message import Message
from services.worker.queue.messages import command_of
from services.worker.redis_client.batcher import Batcher, script_call

# For a function that this worker does not have: it does not know the limits, and admits no ticket.
CLOSED_LIMITS: Final = Limits(concurrency=0)

logger = structlog.get_logger()


class Limiter:
    """Releases the tickets of attempts that ran here. `known` are the limits of this worker's functions, by name."""

    def __init__(self, batcher: Batcher, known: Mapping[str, Limits]) -> None:
        self._known = known
        self._batcher = batcher
        self._wakeups = Wakeups(self._retry)

    async def release(self, key: str, ticket: Ticket) -> None:
        """Release this ticket, and enqueue the tasks that this admits. Releasing twice does no harm."""
        await self._call(key, [ticket])

    async def _call(self, key: str, tickets: Iterable[Ticket] = ()) -> None:
        function = keys.limited_function(key)
        known = self._known.get(function)
        script = script_call(limits.SCRIPT, **limits.arguments(key, known or CLOSED_LIMITS, release=tickets))
        (reply,) = await self._batcher.execute([script])
        decision = limits.decision_of(reply)
        commands = [command_of(Message(task_id, function, attempt)) for task_id, attempt in decision.admitted]
        if known is None and decision.waiting:  # recovery knows the limits
            commands.append(("ZADD", keys.OPEN, "XX", "LT", 0, key))
        if commands:
            await self._batcher.execute(commands)
        self._wakeups.after(decision, key)

    async def _retry(self, key: str) -> None:
        try:
            await self._call(key)
        except RedisError as error:  # recovery scans this limit, too
            logger.warning("limit retry failed", limit=key, error=str(error))

    def close(self) -> None:
        """Cancel all timers, and the calls under way that they have made."""
        self._wakeups.close()
