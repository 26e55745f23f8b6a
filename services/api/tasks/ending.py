"""End a task from the API: the step that appends its end also records it; then its place at its limit is released."""

from typing import Any

import structlog
from redis.asyncio import Redis

from plugins import append, entries, keys, leave_index, metadata
from plugins.limits import Ticket
from services.api.redis_client import run_script
from services.api.tasks.limits import Limiter
from services.api.tasks.queue import QueueError
from services.api.tasks.task import Task

logger = structlog.get_logger()


async def append_end(
    redis: Redis,
    limiter: Limiter,
    task: Task,
    event: str,
    data: Any,
    *,
    worker_lost: bool = False,
    log_ttl_s: int = keys.CHUNK_TTL_S,
) -> bool:
    """Append an end to the log as it was when `task` was read. Return False if the log has changed since.

    `log_ttl_s` is how long the log is kept from then on, in seconds. A worker that runs its function is told to stop.
    `worker_lost` says that none does: then return False if the task is leased after all.
    """
    attempt = max(task.attempt, task.last_attempt)
    line = entries.encode(event, attempt, task.length, entries.now_ms(), data)
    claim = append.LOST_WORKER if worker_lost else ""
    arguments = append.end_arguments(task.task_id, task.length, attempt, line, claim=claim, log_ttl_s=log_ttl_s)
    if await run_script(redis, append.END_WHEN_FULL, **arguments) < 0:
        return False
    await _release_place(redis, limiter, task)
    return True


async def record_end(redis: Redis, limiter: Limiter, task: Task) -> None:
    """Record the end that the log has and the metadata does not.

    Redis has lost a part of the metadata since; or a process of an older release took two steps, and died between them.
    """
    await run_script(redis, append.END_WHEN_FULL, **append.end_arguments(task.task_id, 0, 0))
    await _release_place(redis, limiter, task)


async def _release_place(redis: Redis, limiter: Limiter, task: Task) -> None:
    """Release the place of a task whose end is recorded, unless its function may still clean up.

    Then its worker releases the place; or recovery, when the lease is over.
    """
    if task.limit_key is not None:
        lease_until: Any = await redis.hget(keys.metadata(task.task_id), metadata.LEASE_UNTIL)
        if not int(lease_until or 0):
            await leave(redis, limiter, task)


async def leave(redis: Redis, limiter: Limiter, task: Task) -> None:
    """Release the place, at its limit, of a task that is over; and remove the task from the index of open tasks."""
    try:
        if task.limit_key is not None:
            tickets = [Ticket(task.task_id, task.attempt), Ticket(task.task_id, task.attempt + 1)]
            await limiter.release(task.limit_key, tickets)
    except QueueError as error:  # it stays in the index, and recovery does this again
        logger.warning("limit not released", task_id=task.task_id, error=str(error))
    else:
        await run_script(redis, leave_index.SCRIPT, **leave_index.arguments(task.task_id, task.limit_key))
