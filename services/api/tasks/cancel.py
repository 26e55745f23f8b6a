"""Cancel a task at the request of its owner, or of an admin."""

from typing import NamedTuple

from redis.asyncio import Redis

from plugins import keys
from services.api.identity.caller import Caller
from services.api.tasks.ending import append_end
from services.api.tasks.limits import Limiter
from services.api.tasks.loader import TaskLoader
from services.api.tasks.task import Task


class Cancels(NamedTuple):
    """Cancels tasks. The log of a cancelled task is kept for `log_ttl_s`, in seconds."""

    redis: Redis
    loader: TaskLoader
    limiter: Limiter
    log_ttl_s: int

    async def cancel(self, task_id: str, caller: Caller) -> tuple[Task, bool]:
        """Cancel a task. Return the task once it has an end, and whether this call wrote that end.

        The end needs the last place of the log. A running function may take that place first; then it is stopped, and
        the next place tried.

        Raises:
            ProblemDetailsException: 404, there is no such task, or this caller may not have it.
        """
        while True:
            task = await self.loader.load(task_id, caller)
            if task.end or task.expired:
                return task, False
            data = {"by": "client" if task.owner == caller.owner else "admin"}
            if await append_end(self.redis, self.limiter, task, "cancelled", data, log_ttl_s=self.log_ttl_s):
                return await self.loader.load(task_id, caller), True
            # It writes faster than this loop. Its worker stops it without an entry in the log: then the place is free.
            await self.redis.publish(keys.CANCEL, task_id)
