"""The bookkeeping after an end: the log says it first, then the metadata, then the index of open tasks."""

from typing import Any

import msgspec

from plugins import entries, keys
from services.worker.access import Access


async def close(access: Access, task_id: str, event: str, data: Any) -> None:
    """Note how a task ended. Doing it twice changes nothing; a crash before it leaves the log, which is the truth."""
    await access.note(task_id, status=event, end=msgspec.json.encode(data), ended_at=entries.now_ms())
    await access.trips.go([("ZREM", keys.OPEN, task_id)])
