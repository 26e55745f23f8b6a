"""GET /tasks: the caller's own tasks, newest first."""

from typing import Annotated, Any, Final

import msgspec
from litestar import get
from litestar.params import QueryParameter
from redis.asyncio import Redis

from plugins import keys
from services.api.problems import problem
from services.api.query import number
from services.api.status import Status, status_of
from services.api.task import read_all

MAX_LIMIT: Final = 100


class Tasks(msgspec.Struct, frozen=True):
    """A page of tasks. `next` is the `before` of the next page; null where there is none."""

    tasks: list[Status]
    next: str | None


@get("/tasks", summary="Own tasks", tags=["tasks"])
async def list_tasks(
    owner: str,
    redis: Redis,
    limit: Annotated[
        str | None, QueryParameter(description=f"Tasks per page, 1 to {MAX_LIMIT}; 20 by default.")
    ] = None,
    before: Annotated[str | None, QueryParameter(description="Id of the last task of the page before.")] = None,
) -> Tasks:
    """Tasks are listed for as long as they are kept: a day."""
    most = int(number("limit", limit, 20, 1, MAX_LIMIT, whole=True))
    start = 0
    if before:
        # By id and not by time: several tasks may be of one millisecond.
        place: Any = await redis.zrevrank(keys.by_owner(owner), checked(before))
        if place is None:
            return Tasks([], None)
        start = int(place) + 1
    members: Any = await redis.zrange(keys.by_owner(owner), start, start + most - 1, desc=True)
    ids = [member.decode() for member in members]
    tasks = await read_all(redis, ids)
    return Tasks([status_of(task) for task in tasks if task is not None], ids[-1] if len(ids) == most else None)


def checked(task_id: str) -> str:
    """The id, if it is of the right form.

    Raises:
        ProblemDetailsException: 400, it is not.
    """
    if not keys.TASK_ID.fullmatch(task_id):
        raise problem(400, "invalid-before", "Invalid before", "The parameter before must be the id of a task.")
    return task_id
