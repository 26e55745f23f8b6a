"""Tasks: GET lists them, or says how one goes or how it ended; DELETE cancels one."""

import asyncio
from typing import Annotated, Final

import msgspec
from litestar import Response, delete, get
from litestar.params import PathParameter, QueryParameter
from redis.asyncio import Redis

from plugins import keys
from services.api.http.parameters import number
from services.api.http.problems import problem
from services.api.tasks.ending import cancelled
from services.api.tasks.limits import Limiter
from services.api.tasks.listing import page_of
from services.api.tasks.loader import LookUp
from services.api.tasks.task import Task

MAX_LIMIT: Final = 100

# Seconds to try for the log's last place against a function that writes all the time.
PATIENCE_S: Final = 5


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its client sees it. Times are milliseconds since the epoch; `end` is the data of the last entry.

    `version` is that of the function when the task was submitted, `ran_version` that of the latest attempt: another one
    where a deploy came between. It is null until the first attempt, and where a worker of an older release has run it.
    """

    task_id: str
    function: str
    version: str
    ran_version: str | None
    status: str
    attempt: int
    chunks: int
    created_at: int
    started_at: int | None
    ended_at: int | None
    end: msgspec.Raw | None


def status_of(task: Task) -> Status:
    """What to tell of a task. The log's end goes before the metadata: a worker may die between the two."""
    return Status(
        task_id=task.task_id,
        function=task.function,
        version=task.version,
        ran_version=task.ran_version,
        status=task.status,
        attempt=task.attempt,
        chunks=task.chunks,
        created_at=task.created_at,
        started_at=task.started_at,
        ended_at=task.end.at if task.end else task.noted_ended_at,
        end=task.end.data if task.end else task.noted_end,
    )


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
    tasks, following = await page_of(redis, owner, checked(before) if before else None, most)
    return Tasks([status_of(task) for task in tasks], following)


def checked(task_id: str) -> str:
    """The id, if it is of the right form.

    Raises:
        ProblemDetailsException: 400, it is not.
    """
    if not keys.TASK_ID.fullmatch(task_id):
        raise problem(400, "invalid-before", "Invalid before", "The parameter before must be the id of a task.")
    return task_id


@get("/tasks/{task_id:str}", summary="The state of a task", tags=["tasks"])
async def status(
    task_id: Annotated[str, PathParameter(description="As answered by POST /tasks.")], owner: str, look_up: LookUp
) -> Status:
    """Status, attempt, chunks so far, times, and the end's data."""
    return status_of(await look_up(task_id, owner))


@delete("/tasks/{task_id:str}", summary="Cancel a task", status_code=202, tags=["tasks"])
async def cancel(task_id: str, owner: str, redis: Redis, look_up: LookUp, limiter: Limiter) -> Response[Status]:
    """202: it is cancelled, whether it was queued, running or silent. 200: it had ended already."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            task, ours = await cancelled(redis, look_up, limiter, task_id, owner)
    except TimeoutError:
        raise problem(
            503,
            "unavailable",
            "Temporarily unavailable",
            "The task writes too fast to be cancelled. Ask again.",
            headers={"Retry-After": "1"},
        ) from None
    return Response(status_of(task), status_code=202 if ours else 200)
