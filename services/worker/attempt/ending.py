"""The bookkeeping after an end, in the order of all ends (docs/design.md): log, metadata, gate, index of open tasks."""

from typing import Any

from plugins import keys, metadata
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Access


async def close(access: Access, claim: Claim, event: str, data: Any) -> None:
    """Note how a task ended, as its log says already, and let another through its gate. Doing it twice changes nothing.

    A crash before it leaves the log, which is the truth; one within it leaves the task in the index, so that recovery
    does the rest.

    Raises:
        redis.exceptions.RedisError: Redis refused, or did not answer for as long as the client's retries last.
    """
    note = access.note(claim.task_id, metadata.ended(event, data))
    off_the_index = ("ZREM", keys.OPEN, claim.task_id)
    if claim.limit_key:
        await access.limiter.release(claim, preceded_by=[note])
        await access.batcher.execute([off_the_index])
    else:
        # The note is refused for no reason for which the index would not be, too: so nothing leaves it without a note.
        await access.batcher.execute([note, off_the_index])
