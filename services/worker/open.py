"""Opening a task's log for an attempt: what stands in it already, and the mark of a new attempt.

The mark fences whatever is left of the attempt before: the write rule takes nothing more from it.
"""

from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from plugins import append, entries, keys
from services.worker.claim import Claim
from services.worker.close import close
from services.worker.log import RefusedError

# Entries per read of a log that is to be continued.
PAGE: Final = 256


class Opened(msgspec.Struct, frozen=True):
    """A log that an attempt may write to: its length, and what of it readers keep, with the bytes of those entries."""

    length: int
    kept: list[Any]
    size: int


async def open_log(redis: Redis, script: AsyncScript, claim: Claim, *, keeps: bool) -> Opened | None:
    """Make the log ready for this attempt; None where it has an end.

    Raises:
        RefusedError: a newer attempt has written.
        redis.exceptions.RedisError: Redis did not answer for as long as the client's retries last.
    """
    while True:
        length, last = await _state(redis, claim)
        if last is not None and last.ends:
            await close(redis, claim.task_id, last.event, last.data)
            return None
        if last is not None and last.attempt > claim.attempt:
            raise RefusedError(append.Refusal.FENCED)
        if claim.attempt == 1:
            return Opened(length, [], 0)
        mark = {"attempt": claim.attempt, "keeps": keeps}
        line = entries.encode("attempt", claim.attempt, length, entries.now_ms(), mark)
        answer = await script(**append.arguments(claim.task_id, length, claim.attempt, line))
        if answer > 0:
            break
        # What is left of the attempt before has written meanwhile: the mark goes to the next place.
    kept, size = await _kept(redis, claim.task_id, length) if keeps else ([], 0)
    await _count(redis, claim.task_id, answer - len(kept))
    return Opened(answer, kept, size)


async def _state(redis: Redis, claim: Claim) -> tuple[int, entries.Entry | None]:
    log = keys.chunks(claim.task_id)
    async with redis.pipeline(transaction=False) as pipeline:
        # From now on recovery looks when the lease is over, no longer when the queue should have been faster.
        pipeline.zadd(keys.OPEN, {claim.task_id: claim.lease_until // 1000 + 1}, xx=True)
        pipeline.llen(log)
        pipeline.lindex(log, -1)
        _, length, line = await pipeline.execute()
    return int(length), entries.decode(line) if line else None


async def _kept(redis: Redis, task_id: str, length: int) -> tuple[list[Any], int]:
    kept: list[Any] = []
    size = 0
    for start in range(0, length, PAGE):
        lines: Any = await redis.lrange(keys.chunks(task_id), start, min(start + PAGE, length) - 1)
        for line in lines:
            entry = entries.decode(line)
            if entry.event == "chunk":
                kept.append(msgspec.json.decode(entry.data))
                size += len(line)
            elif not msgspec.json.decode(entry.data)["keeps"]:
                kept, size = [], 0
    return kept, size


async def _count(redis: Redis, task_id: str, uncounted: int) -> None:
    """Note how many entries are none of this attempt's chunks, for those who count."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(keys.metadata(task_id), "uncounted", str(uncounted))
        pipeline.expire(keys.metadata(task_id), keys.TASK_TTL_S)
        await pipeline.execute()
