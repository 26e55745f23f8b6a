"""End a task from the API, in the order of all ends (docs/design.md): log, metadata, limit, index of open tasks."""

from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from plugins import append, entries, keys, metadata
from plugins.limits import Ticket
from services.api.redis_client import run_script
from services.api.tasks.limits import Limiter
from services.api.tasks.loader import TaskLoader
from services.api.tasks.queue import QueueError
from services.api.tasks.task import Task

logger = structlog.get_logger()


async def append_end(
    redis: Redis, limiter: Limiter, task: Task, event: str, data: Any, *, running: bool = False
) -> bool:
    """Append an end to the log as it was when `task` was read, and record it.

    Return False if the log has changed since.

    `running` as in `record_end`.
    """
    attempt = max(task.attempt, task.last.attempt if task.last else 0)
    line = entries.encode(event, attempt, task.length, entries.now_ms(), data)
    arguments = append.arguments(task.task_id, task.length, attempt, line)
    if await run_script(redis, append.END_SCRIPT, **arguments) < 0:
        return False
    await record_end(redis, limiter, task, event, data, running=running)
    return True


async def record_end(
    redis: Redis, limiter: Limiter, task: Task, event: str, data: Any, *, running: bool = False
) -> None:
    """Record in the metadata how a task ended. Doing it twice changes nothing; a crash before it leaves the log, which
    is the truth.

    `running` says that its function has yet to stop: then its worker releases the limit.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses for another reason than that it is full.
    """
    try:
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.metadata(task.task_id), mapping=metadata.ended(event, data))
            pipeline.expire(keys.metadata(task.task_id), keys.TASK_TTL_S)
            await pipeline.execute()
    except OutOfMemoryError:
        # A deletion is always possible: without its claim, the worker stops at the next renewal even if it receives no
        # cancel. The task stays in the index, and recovery records the rest when there is room.
        await redis.hdel(keys.metadata(task.task_id), metadata.CLAIM)
        return
    if running:
        await redis.zrem(keys.OPEN, task.task_id)
    else:
        await remove_from_open(redis, limiter, task)


async def remove_from_open(redis: Redis, limiter: Limiter, task: Task) -> None:
    """Release the limit of a task whose end is recorded, and remove the task from the index of open tasks."""
    try:
        if task.limit_key is not None:
            tickets = [Ticket(task.task_id, task.attempt), Ticket(task.task_id, task.attempt + 1)]
            await limiter.release(task.limit_key, tickets)
    except QueueError as error:  # it stays in the index, and recovery does this again
        logger.warning("limit not released", task_id=task.task_id, error=str(error))
    else:
        await redis.zrem(keys.OPEN, task.task_id)


async def cancel_task(
    redis: Redis, loader: TaskLoader, limiter: Limiter, task_id: str, owner: str
) -> tuple[Task, bool]:
    """Cancel a task. Return the task once it has an end, and whether this call wrote that end.

    The end needs the last place of the log. A running function may take that place first; then it is stopped, and the
    next place tried.

    Raises:
        ProblemDetailsException: 404, there is no such task of this owner.
    """
    while True:
        task = await loader.load(task_id, owner)
        running = task.recorded_status == "running"
        if task.end or task.expired:
            if task.end and task.recorded_status not in entries.ENDS:
                # The process that ended it may have died before it recorded that: the worker may not know.
                await record_end(redis, limiter, task, task.end.event, task.end.data, running=running)
                await redis.publish(keys.CANCEL, task_id)
            return task, False
        cancelled = await append_end(redis, limiter, task, "cancelled", {"by": owner}, running=running)
        # If it writes faster than this loop, its worker stops it without an entry in the log: then the place is free.
        await redis.publish(keys.CANCEL, task_id)
        if cancelled:
            return await loader.load(task_id, owner), True
