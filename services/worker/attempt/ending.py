"""After an end is in the log: metadata, limit, index of open tasks, in this order (docs/design.md, "A task's life")."""

from typing import Any

from plugins import keys, metadata
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Commands


async def record_end(commands: Commands, claim: Claim, event: str, data: Any) -> None:
    """Record in the metadata how a task ended, as its log says already, and release its limit. Doing it twice changes
    nothing.

    A crash before it leaves the log, which is the truth. A crash within it leaves the task in the index of open tasks,
    so that recovery does the rest.

    Raises:
        redis.exceptions.RedisError: Redis refused, or did not answer for as long as the client's retries last.
    """
    record = commands.set_metadata(claim.task_id, metadata.ended(event, data))
    remove_from_open = ("ZREM", keys.OPEN, claim.task_id)
    if claim.limit_key:
        await commands.limiter.release(claim, preceded_by=[record])
        await commands.batcher.execute([remove_from_open])
    else:
        # Redis refuses the record for no reason for which it would not refuse the removal: so no task leaves the index
        # without its record.
        await commands.batcher.execute([record, remove_from_open])
