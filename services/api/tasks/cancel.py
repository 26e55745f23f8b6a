"""Cancel a task at its owner's request."""

from typing import NamedTuple

from redis.asyncio import Redis

from plugins import keys
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

    async def cancel(self, task_id: str, owner: str) -> tuple[Task, bool]:
        """Cancel a task. Return the task once it has an end, and whether this call wrote that end.

        The end needs the last place of the log. A running function may take that place first; then it is stopped, and
        the next place tried.

        Raises:
            ProblemDetailsException: 404, there is no such task of this owner.
        """
        while True:
            task = await self.loader.load(task_id, owner)
            if task.end or task.expired:
                return task, False
            data = {"by": owner}
            if await append_end(self.redis, self.limiter, task, "cancelled", data, log_ttl_s=self.log_ttl_s):
                return await self.loader.load(task_id, owner), True
            # It writes faster than this loop. Its worker stops it without an entry in the log: then the place is free.
            await self.redis.publish(keys.CANCEL, task_id)
