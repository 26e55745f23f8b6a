"""Open a task's log for an attempt: read what it holds already, and append the mark of a new attempt.

The mark fences the previous attempt: the write rule accepts nothing more from it.
"""

from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from plugins import Event, append, entries, keys, limits
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Commands
from services.worker.attempt.log_writer import RefusedError

# Entries per read of a log that is to be continued.
PAGE_ENTRIES: Final = 256


class Opened(msgspec.Struct, frozen=True):
    """A log that an attempt may write to: its length, the chunks that readers keep, and the bytes of their entries."""

    length: int
    kept: list[Any]
    size: int


async def open_log(commands: Commands, claim: Claim, *, keeps: bool) -> Opened | None:
    """Make the log ready for this attempt. Return None if it has an end.

    Raises:
        RefusedError: a newer attempt has written, or the task is not this claim's any more.
    """
    if claim.limit_key:
        await commands.batcher.execute([("ZADD", claim.limit_key, "XX", limits.STARTED, str(claim.ticket))])
    last = claim.last
    length = last.seq + 1 if last is not None else 0
    while True:
        if last is not None and last.ends:
            await commands.append_end(claim, 0)
            return None
        if last is not None and last.attempt > claim.attempt:
            raise RefusedError(append.Refusal.FENCED)
        if claim.attempt == 1 and not length:
            return Opened(0, [], 0)
        mark = {"attempt": claim.attempt, "keeps": keeps}
        line = entries.encode("attempt", claim.attempt, length, entries.now_ms(), mark)
        answer = await commands.batcher.run_script(
            append.MARK_SCRIPT, **append.arguments(claim.task_id, length, claim.attempt, line, claim=claim.token)
        )
        if answer > 0:
            break
        # The previous attempt has written meanwhile: append the mark behind that.
        log, expected = keys.log(claim.task_id), length
        length, line = await commands.batcher.execute([("LLEN", log), ("LINDEX", log, -1)])
        last = entries.decode(line) if line else None
        if answer == append.Refusal.FENCED and length == expected:
            # It has not: the task is not this claim's any more, or its metadata is lost.
            raise RefusedError(append.Refusal.FENCED)
    kept, size = await _kept(commands.redis, claim.task_id, length) if keeps else ([], 0)
    return Opened(answer, kept, size)


async def _kept(redis: Redis, task_id: str, length: int) -> tuple[list[Any], int]:
    kept: list[Any] = []
    size = 0
    for start in range(0, length, PAGE_ENTRIES):
        lines: Any = await redis.lrange(keys.log(task_id), start, min(start + PAGE_ENTRIES, length) - 1)
        for line in lines:
            entry = entries.decode(line)
            data = msgspec.json.decode(entry.data)
            if entry.event != "attempt":
                kept.append(data if entry.event == "chunk" else Event(entry.event, data))
                size += len(line)
            elif not data["keeps"]:
                kept, size = [], 0
    return kept, size
