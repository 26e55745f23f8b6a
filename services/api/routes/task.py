"""Tasks: GET lists them, or answers the state of one; DELETE cancels or purges one."""

import asyncio
from typing import Annotated, Any, Final

import msgspec
from litestar import Response, delete, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from redis.asyncio import Redis

from plugins import keys
from services.api.http import problems
from services.api.http.parameters import OPTIONAL, Flag, Number, TaskId
from services.api.http.problems import problem
from services.api.identity.authentication import NEEDS
from services.api.identity.caller import TASKS, Caller
from services.api.streams.hub import Hub
from services.api.tasks.cancel import Cancels
from services.api.tasks.loader import TaskLoader
from services.api.tasks.purge import purge_task
from services.api.tasks.task import Task, page_of

LIMIT: Final = Number(name="limit", default=20, low=1, high=100, whole=True)

PURGE: Final = Flag(name="purge")

# Seconds to try to append an end to the log of a function that writes all the time.
CANCEL_TIMEOUT_S: Final = 5


# For Litestar, raw JSON is any value; an end's data is an object.
END: Final = msgspec.Meta(extra_json_schema={"extra": {"one_of": None, "type": ["object", "null"]}})


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its client sees it. Times are milliseconds since the epoch; `end` is the data of the last entry.

    `version` is that of the function when the task was submitted, `ran_version` that of the latest attempt: they differ
    if there was a deploy between. It is null until the first attempt, and if a worker of an older release has run it.
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
    end: Annotated[msgspec.Raw | None, END]


def status_of(task: Task) -> Status:
    """Return the status of a task. The log's end takes precedence over the metadata, which Redis may have lost."""
    recorded_end = msgspec.Raw(task.recorded_end) if task.recorded_end is not None else None
    return Status(
        task_id=task.task_id,
        function=task.function,
        version=task.version,
        ran_version=task.ran_version or None,
        status=task.status,
        attempt=task.attempt,
        chunks=task.chunks,
        created_at=task.created_at,
        started_at=task.started_at,
        ended_at=task.end.at if task.end else task.recorded_ended_at,
        end=task.end.data if task.end else recorded_end,
    )


def gone() -> Response[Any]:
    """Return the answer to a purge: nothing is left to tell."""
    return Response(None, status_code=204)


class Tasks(msgspec.Struct, frozen=True):
    """A page of tasks. `next` is the `before` of the next page; null where there is none."""

    tasks: list[Status]
    next: str | None


@get("/tasks", summary="List your tasks", tags=["tasks"], opt={NEEDS: TASKS}, responses=problems.documented(400, 503))
async def list_tasks(
    caller: NamedDependency[Caller],
    redis: NamedDependency[Redis],
    hub: NamedDependency[Hub],
    limit: Annotated[str | None, LIMIT.described("Tasks per page")] = None,
    before: Annotated[
        str | None, QueryParameter(description="Id of the last task of the page before.", schema_extra=OPTIONAL)
    ] = None,
) -> Tasks:
    """Tasks are listed for as long as they are kept: a day."""
    page_size = int(LIMIT.parse(limit))
    if before and not keys.TASK_ID.fullmatch(before):
        raise problem(400, "invalid-before", "Invalid before", "The parameter before must be the id of a task.")
    async with hub.page_semaphore:  # a listing reads much at once, as late readers do
        tasks, next_before = await page_of(redis, caller.owner, before, page_size)
    return Tasks([status_of(task) for task in tasks], next_before)


@get(
    "/tasks/{task_id:str}",
    summary="Get a task",
    tags=["tasks"],
    opt={NEEDS: TASKS},
    responses=problems.documented(404, 503),
)
async def status(task_id: TaskId, caller: NamedDependency[Caller], loader: NamedDependency[TaskLoader]) -> Status:
    """Status, attempt, chunks so far, times, and the end's data."""
    return status_of(await loader.load(task_id, caller))


@delete(
    "/tasks/{task_id:str}",
    summary="Cancel or purge a task",
    status_code=202,
    tags=["tasks"],
    opt={NEEDS: TASKS},
    responses={
        200: ResponseSpec(Status, description="It had ended already.", generate_examples=False),
        204: ResponseSpec(None, description="It is purged."),
        **problems.documented(400, 404, 503),
    },
)
async def cancel(
    task_id: TaskId,
    caller: NamedDependency[Caller],
    cancels: NamedDependency[Cancels],
    purge: Annotated[str | None, PURGE.described("Remove all that is kept of the task, too.")] = None,
) -> Response[Status]:
    """202: it is cancelled, whether it was queued, running or silent. 200: it had ended already. With `purge`, 204: it
    is cancelled unless it had ended, and nothing of it is kept; from then on it is unknown.
    """
    purges = PURGE.parse(purge)
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            if purges:
                await purge_task(cancels, task_id, caller)
                return gone()
            task, cancelled_now = await cancels.cancel(task_id, caller)
    except TimeoutError:
        raise problem(
            503,
            "unavailable",
            "Temporarily unavailable",
            "The task writes too fast to be cancelled. Ask again.",
            headers={"Retry-After": "1"},
        ) from None
    return Response(status_of(task), status_code=202 if cancelled_now else 200)
