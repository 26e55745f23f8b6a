"""Opening a task's log for an attempt: what stands in it already, and the mark of a new attempt.

The mark fences whatever is left of the attempt before: the write rule takes nothing more from it.
"""

from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from plugins import Event, append, entries, keys, limits, metadata
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Access
from services.worker.attempt.ending import close
from services.worker.attempt.log_writer import RefusedError

# Entries per read of a log that is to be continued.
PAGE: Final = 256


class Opened(msgspec.Struct, frozen=True):
    """A log that an attempt may write to: its length, and what of it readers keep, with the bytes of those entries."""

    length: int
    kept: list[Any]
    size: int


async def open_log(access: Access, claim: Claim, *, keeps: bool) -> Opened | None:
    """Make the log ready for this attempt; None where it has an end.

    Raises:
        RefusedError: a newer attempt has written.
        redis.exceptions.RedisError: Redis did not answer for as long as the client's retries last.
    """
    if claim.limit_key:
        await access.batcher.execute([("ZADD", claim.limit_key, "XX", limits.STARTED, str(claim.ticket))])
    last = claim.last
    length = last.seq + 1 if last is not None else 0
    while True:
        if last is not None and last.ends:
            await close(access, claim, last.event, last.data)
            return None
        if last is not None and last.attempt > claim.attempt:
            raise RefusedError(append.Refusal.FENCED)
        if claim.attempt == 1:
            return Opened(length, [], 0)
        mark = {"attempt": claim.attempt, "keeps": keeps}
        line = entries.encode("attempt", claim.attempt, length, entries.now_ms(), mark)
        answer = await access.append(**append.arguments(claim.task_id, length, claim.attempt, line))
        if answer > 0:
            break
        # What is left of the attempt before has written meanwhile: the mark goes to the next place.
        log = keys.log(claim.task_id)
        length, line = await access.batcher.execute([("LLEN", log), ("LINDEX", log, -1)])
        last = entries.decode(line) if line else None
    kept, size = await _kept(access.redis, claim.task_id, length) if keeps else ([], 0)
    await access.batcher.execute([access.note(claim.task_id, {metadata.NON_CHUNK_ENTRIES: answer - len(kept)})])
    return Opened(answer, kept, size)


async def _kept(redis: Redis, task_id: str, length: int) -> tuple[list[Any], int]:
    kept: list[Any] = []
    size = 0
    for start in range(0, length, PAGE):
        lines: Any = await redis.lrange(keys.log(task_id), start, min(start + PAGE, length) - 1)
        for line in lines:
            entry = entries.decode(line)
            data = msgspec.json.decode(entry.data)
            if entry.event != "attempt":
                kept.append(data if entry.event == "chunk" else Event(entry.event, data))
                size += len(line)
            elif not data["keeps"]:
                kept, size = [], 0
    return kept, size
