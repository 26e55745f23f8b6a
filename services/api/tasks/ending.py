"""Ending a task from here, in the order of all ends (docs/design.md): log, metadata, gate, index of open tasks."""

from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError
from taskiq.exceptions import SendTaskError

from plugins import append, entries, keys, metadata
from plugins.limits import Ticket
from services.api.redis_client import run_script
from services.api.tasks.limits import Limiter
from services.api.tasks.loader import LookUp
from services.api.tasks.task import Task

logger = structlog.get_logger()


async def end(redis: Redis, limiter: Limiter, task: Task, event: str, data: Any, *, runs: bool = False) -> bool:
    """Append an end behind what the task's log was seen to hold, and note it. False where the log has changed since.

    `runs` as in `close`.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses.
    """
    attempt = max(task.attempt, task.last.attempt if task.last else 0)
    line = entries.encode(event, attempt, task.length, entries.now_ms(), data)
    arguments = append.arguments(task.task_id, task.length, attempt, line)
    if await run_script(redis, append.END_SCRIPT, **arguments) < 0:
        return False
    await close(redis, limiter, task, event, data, runs=runs)
    return True


async def close(redis: Redis, limiter: Limiter, task: Task, event: str, data: Any, *, runs: bool = False) -> None:
    """Note how a task ended. Doing it twice changes nothing; a crash before it leaves the log, which is the truth.

    `runs` says that its function has yet to stop: then its worker lets another through the gate.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses for another reason than that it is full.
    """
    try:
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.metadata(task.task_id), mapping=metadata.ended(event, data))
            pipeline.expire(keys.metadata(task.task_id), keys.TASK_TTL_S)
            await pipeline.execute()
    except OutOfMemoryError:
        # To take away is always possible: without its claim, the worker stops at the next renewal even if it hears
        # nothing else. The task stays in the index, and recovery notes the rest when there is room.
        await redis.hdel(keys.metadata(task.task_id), metadata.CLAIM)
        return
    if runs:
        await redis.zrem(keys.OPEN, task.task_id)
    else:
        await forget(redis, limiter, task)


async def forget(redis: Redis, limiter: Limiter, task: Task) -> None:
    """Nobody has to look at a task any more that is noted to have ended: another may go through its gate.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses.
    """
    try:
        if task.limit_key is not None:
            await limiter.release(
                task.limit_key, [Ticket(task.task_id, task.attempt), Ticket(task.task_id, task.attempt + 1)]
            )
    except SendTaskError as error:  # it stays in the index, and recovery does this again
        logger.warning("gate not left", task_id=task.task_id, error=str(error.__cause__ or error))
    else:
        await redis.zrem(keys.OPEN, task.task_id)


async def cancelled(redis: Redis, look_up: LookUp, limiter: Limiter, task_id: str, owner: str) -> tuple[Task, bool]:
    """The task once it has an end, and whether that is ours.

    The end goes to whatever place is the last when it arrives. A running function may take that place first; then it is
    stopped, and the next place tried.
    """
    while True:
        task = await look_up(task_id, owner)
        runs = task.noted == "running"
        if task.end or task.expired:
            if task.end and task.noted not in entries.ENDS:
                # Whoever ended it did not get further: the worker may not know.
                await close(redis, limiter, task, task.end.event, task.end.data, runs=runs)
                await redis.publish(keys.CANCEL, task_id)
            return task, False
        if await end(redis, limiter, task, "cancelled", {"by": owner}, runs=runs):
            await redis.publish(keys.CANCEL, task_id)
            return await look_up(task_id, owner), True
        # It writes faster than we ask. Its worker stops it, without a word in the log: then the place is ours.
        await redis.publish(keys.CANCEL, task_id)
