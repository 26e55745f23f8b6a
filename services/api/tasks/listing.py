"""An owner's tasks, newest first, page by page."""

from typing import Any

from redis.asyncio import Redis

from plugins import keys
from services.api.tasks.task import Task, fetch, task_of


async def page_of(redis: Redis, owner: str, before: str | None, limit: int) -> tuple[list[Task], str | None]:
    """Return at most `limit` of this owner's tasks, from the newest on or behind `before` (a task's id); and the
    `before` of the next page, None if this one is the last. The page is empty if `before` is not listed any more.
    """
    listed, start = keys.by_owner(owner), 0
    if before:
        # By id and not by time: several tasks may be of one millisecond.
        rank: Any = await redis.zrevrank(listed, before)
        if rank is None:
            return [], None
        start = int(rank) + 1
    members: Any = await redis.zrange(listed, start, start + limit - 1, desc=True)
    ids = [member.decode() for member in members]
    tasks = map(task_of, ids, await fetch(redis, ids))
    return [task for task in tasks if task is not None], ids[-1] if len(ids) == limit else None
