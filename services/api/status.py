"""GET /tasks/{task_id}: how it goes, or how it ended."""

from typing import Annotated

import msgspec
from litestar import get
from litestar.params import PathParameter

from services.api.lookup import LookUp
from services.api.task import Task


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


@get("/tasks/{task_id:str}", summary="The state of a task", tags=["tasks"])
async def status(
    task_id: Annotated[str, PathParameter(description="As answered by POST /tasks.")], owner: str, look_up: LookUp
) -> Status:
    """Status, attempt, chunks so far, times, and the end's data."""
    return status_of(await look_up(task_id, owner))
