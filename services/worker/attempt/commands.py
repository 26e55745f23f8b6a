"""The scripts and commands that an attempt needs."""

from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis

from plugins import keys, metadata, scripts
from plugins.limits import Limits
from plugins.metadata import Fields
from services.worker.attempt.claim import Claim, Claims
from services.worker.attempt.limits import Limiter
from services.worker.redis_client.batcher import Batcher, Command, script_call

SET_METADATA: Final = scripts.read("set_metadata.lua", __file__)


class Commands:
    """The scripts of a task's life, all through one batcher; and the client itself, for large reads."""

    def __init__(self, redis: Redis, limits: Mapping[str, Limits]) -> None:
        self.redis: Final = redis
        self.batcher: Final = Batcher(redis)
        self.claims: Final = Claims(self.batcher)
        self.limiter: Final = Limiter(self.batcher, limits)

    def set_metadata(self, task_id: str, fields: Fields, attempt: int = 0) -> Command:
        """Return the command that writes these fields of a task's metadata.

        With `attempt`, it writes nothing if a later attempt has begun.
        """
        args = [part for field in fields.items() for part in field]
        return script_call(SET_METADATA, [keys.metadata(task_id)], [keys.TASK_TTL_S, attempt, *args])

    async def record_end(self, claim: Claim, event: str, data: Any) -> None:
        """Record how a task ended, as its log says already: metadata, limit, index of open tasks, in this order
        (docs/design.md, "A task's life"). Doing it twice changes nothing.

        A crash before it leaves the log, which is the truth. A crash within it leaves the task in the index of open
        tasks, so that recovery does the rest.
        """
        record = self.set_metadata(claim.task_id, metadata.ended(event, data))
        remove_from_open = ("ZREM", keys.OPEN, claim.task_id)
        if claim.limit_key:
            await self.limiter.release(claim, preceded_by=[record])
            await self.batcher.execute([remove_from_open])
        else:
            # Redis refuses the record for no reason for which it would not refuse the removal: so no task leaves the
            # index without its record.
            await self.batcher.execute([record, remove_from_open])
