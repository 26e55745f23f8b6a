"""DELETE /tasks/{task_id}: the log gets its end, and the worker stops the function."""

import asyncio
from typing import Final

from litestar import Response, delete
from redis.asyncio import Redis

from plugins import entries, keys
from services.api.close import close, end
from services.api.gate import Gates
from services.api.lookup import LookUp
from services.api.problems import problem
from services.api.status import Status, status_of
from services.api.task import Task

# Seconds to try for the log's last place against a function that writes all the time.
PATIENCE_S: Final = 5


@delete("/tasks/{task_id:str}", summary="Cancel a task", status_code=202, tags=["tasks"])
async def cancel(task_id: str, owner: str, redis: Redis, look_up: LookUp, gates: Gates) -> Response[Status]:
    """202: it is cancelled, whether it was queued, running or silent. 200: it had ended already."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            task, ours = await cancelled(redis, look_up, gates, task_id, owner)
    except TimeoutError:
        raise problem(
            503,
            "unavailable",
            "Temporarily unavailable",
            "The task writes too fast to be cancelled. Ask again.",
            headers={"Retry-After": "1"},
        ) from None
    return Response(status_of(task), status_code=202 if ours else 200)


async def cancelled(redis: Redis, look_up: LookUp, gates: Gates, task_id: str, owner: str) -> tuple[Task, bool]:
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
                await close(redis, gates, task, task.end.event, task.end.data, runs=runs)
                await redis.publish(keys.CANCEL, task_id)
            return task, False
        if await end(redis, gates, task, "cancelled", {"by": owner}, runs=runs):
            await redis.publish(keys.CANCEL, task_id)
            return await look_up(task_id, owner), True
        # It writes faster than we ask. Its worker stops it, without a word in the log: then the place is ours.
        await redis.publish(keys.CANCEL, task_id)
