"""The bookkeeping after an end: the log says it first, then the gate, the metadata, and the index of open tasks."""

from typing import Any

import msgspec

from plugins import entries, keys
from services.worker.access import Access
from services.worker.claim import Claim


async def close(access: Access, claim: Claim, event: str, data: Any) -> None:
    """Let another through the task's gate, and note how it ended. Doing it twice changes nothing.

    A crash before it leaves the log, which is the truth; one within it leaves the task in the index, so that recovery
    does the rest.
    """
    await access.gates.leave(claim)
    # The note is refused for no reason for which the index would not be, too: so nothing leaves the index without it.
    note = access.note(claim.task_id, status=event, end=msgspec.json.encode(data), ended_at=entries.now_ms())
    await access.trips.go([note, ("ZREM", keys.OPEN, claim.task_id)])
