"""Ending a task from here: the log says it first, then the metadata, then the index of open tasks."""

from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError
from redis.typing import EncodableT, FieldT

from plugins import append, entries, keys
from services.api import script
from services.api.task import Task


async def end(redis: Redis, task: Task, event: str, data: Any) -> bool:
    """Append an end behind what the task's log was seen to hold, and note it. False where the log has changed since."""
    attempt = max(task.attempt, task.last.attempt if task.last else 0)
    line = entries.encode(event, attempt, task.length, entries.now_ms(), data)
    arguments = append.arguments(task.task_id, task.length, attempt, line)
    if await script.run(redis, append.END_SCRIPT, **arguments) < 0:
        return False
    await close(redis, task.task_id, event, data)
    return True


async def close(redis: Redis, task_id: str, event: str, data: Any) -> None:
    """Note how a task ended. Doing it twice changes nothing; a crash before it leaves the log, which is the truth."""
    end: dict[FieldT, EncodableT] = {
        "status": event,
        "end": msgspec.json.encode(data),
        "ended_at": entries.now_ms(),
    }
    try:
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.metadata(task_id), mapping=end)
            pipeline.expire(keys.metadata(task_id), keys.TASK_TTL_S)
            await pipeline.execute()
    except OutOfMemoryError:
        # To take away is always possible: without its claim, the worker stops at the next renewal even if it hears
        # nothing else. The task stays in the index, and recovery notes the rest when there is room.
        await redis.hdel(keys.metadata(task_id), "claim")
        return
    await redis.zrem(keys.OPEN, task_id)
