"""The scripts and commands that an attempt needs."""

from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis

from plugins import append, keys, leave_index, metadata
from plugins.limits import Limits
from services.worker.attempt.claim import Claim, Claims
from services.worker.attempt.limits import Limiter
from services.worker.redis_client.batcher import Batcher


class Commands:
    """The scripts of a task's life, all through one batcher; and the client itself, for large reads."""

    def __init__(self, redis: Redis, limits: Mapping[str, Limits]) -> None:
        self.redis: Final = redis
        self.batcher: Final = Batcher(redis)
        self.limiter: Final = Limiter(self.batcher, limits)
        self.claims: Final = Claims(self.batcher)

    async def append_end(self, claim: Claim, expected: int, *lines: bytes) -> int:
        """Append these entries, of which the last is the task's end, which the same step records. Return the answer of
        the write rule. Without entries, and with `expected` 0, record the end that the log has.
        """
        arguments = append.end_arguments(claim.task_id, expected, claim.attempt, *lines, claim=claim.token)
        return int(await self.batcher.run_script(append.END_SCRIPT, **arguments))

    async def release_place(self, claim: Claim) -> None:
        """Release this attempt's place at its limit; then a task that is over leaves the index of open tasks.

        Doing it twice does no harm. If Redis has lost the claim, another worker may have the same attempt: then the
        place is that worker's.
        """
        if not claim.limit_key:
            return
        fields = (metadata.ATTEMPT, metadata.CLAIM)
        ((attempt, holder),) = await self.batcher.execute([("HMGET", keys.metadata(claim.task_id), *fields)])
        if attempt == str(claim.attempt).encode() and holder != claim.token.encode():
            return
        await self.limiter.release(claim.limit_key, claim.ticket)
        leaves = leave_index.arguments(claim.task_id, claim.limit_key)
        await self.batcher.run_script(leave_index.SCRIPT, **leaves)
