"""POST /tasks: starts a task, and answers where it is; or, to those who ask for it, with the task's stream.

The stream needs no second request, so its first chunk comes sooner. A client that lost it goes on at the task's own
stream; or, where it sent an `Idempotency-Key`, by sending the same request again with the `Last-Event-ID` it has.
"""

from typing import Any, Final, NamedTuple

import msgspec
from litestar import Request, Response, post
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec

from services.api.http.negotiation import media_types
from services.api.http.parameters import Cursor, IdempotencyKey, LastEventId, Name, cursor_of
from services.api.http.problems import malformed, problem
from services.api.streams.formats import NDJSON, SSE, Format
from services.api.streams.response import Follow
from services.api.tasks.submission import NewTask, Services, start
from services.api.tasks.task import Task

# A body longer than this is no input but a file. In bytes.
MAX_BODY: Final = 64_000

STREAM: Final = ResponseSpec(
    str,
    description=(
        "With `Accept: text/event-stream` (or `application/x-ndjson`): the task's stream, as GET answers it. "
        "`Location` is the task, `Content-Location` its stream. With an `Idempotency-Key`, the same request with a "
        "`Last-Event-ID` goes on after that entry."
    ),
    media_type=SSE.media_type,
    generate_examples=False,
)

SEEN: Final = ResponseSpec(
    None, description="It goes on, and the client has the end already: there is nothing to come."
)

# What both ways to start a task have in common.
STARTS: Final[dict[str, Any]] = {
    "status_code": 202,
    "request_max_body_size": MAX_BODY,
    "exception_handlers": {RecursionError: malformed, UnicodeDecodeError: malformed},
    "responses": {200: STREAM, 204: SEEN},
}

START: Final = Cursor(-1)


class Submitted(msgspec.Struct, frozen=True):
    """Where to find the task from now on."""

    task_id: str
    function: str
    status: str
    status_url: str
    stream_url: str
    chunks_url: str


class Wanted(NamedTuple):
    """How a request wants to be answered: with a stream that is written so, from the cursor on; None: with JSON."""

    stream: Format | None
    cursor: Cursor
    goes_on: bool  # in a stream that there is: nothing is to be started for it


def wanted(request: Request[Any, Any, Any], idempotency_key: str | None, last_event_id: str | None) -> Wanted:
    """What `Accept` and `Last-Event-ID` say. JSON for those who take that, too, or say nothing.

    Raises:
        ProblemDetailsException: 400, this is no cursor; or one without a key, so that another task would begin.
    """
    accepted = media_types(request)
    stream = None
    if MediaType.JSON not in accepted:
        stream = next((each for each in (NDJSON, SSE) if each.media_type in accepted), None)
    cursor = cursor_of(last_event_id=last_event_id if stream else None)
    goes_on = cursor != START
    if goes_on and idempotency_key is None:
        raise problem(
            400,
            "idempotency-key-missing",
            "Idempotency-Key missing",
            "With Last-Event-ID, but no Idempotency-Key, this would start another task. Send the key with the first "
            "request and with every repetition; or follow the task that there is: GET its stream with Last-Event-ID.",
        )
    return Wanted(stream, cursor, goes_on)


def answer(task: Task, wanted: Wanted, follow: Follow) -> Response[Any]:
    """202 and where the task is; or its stream.

    Raises:
        ProblemDetailsException: 410, its log is wanted and not kept any more.
    """
    location = f"/tasks/{task.task_id}"
    stream = f"{location}/stream"
    if wanted.stream is not None:
        return follow(task, wanted.cursor, wanted.stream, {"location": location, "content-location": stream})
    body = Submitted(task.task_id, task.function, task.status, location, stream, f"{location}/chunks")
    return Response(body, status_code=202, headers={"Location": location})


@post(
    "/tasks",
    summary="Start a task",
    **STARTS,
    tags=["tasks"],
)
async def submit(
    data: NewTask,
    owner: str,
    services: Services,
    follow: Follow,
    request: Request[Any, Any, Any],
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = None,
) -> Response[Submitted]:
    """Start a function. 202 means that the task is noted and queued; its `Location` says how it goes."""
    how = wanted(request, idempotency_key, last_event_id)
    task = await start(services, owner, data, idempotency_key, ["input"], goes_on=how.goes_on)
    return answer(task, how, follow)


@post(
    "/functions/{name:str}/tasks",
    summary="Start a task of one function",
    **STARTS,
    tags=["functions"],
)
async def submit_to(
    name: Name,
    data: dict[str, Any],
    owner: str,
    services: Services,
    follow: Follow,
    request: Request[Any, Any, Any],
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = None,
) -> Response[Submitted]:
    """As POST /tasks, with the function's input as the body: 202, or the stream."""
    how = wanted(request, idempotency_key, last_event_id)
    task = await start(services, owner, NewTask(name, data), idempotency_key, [], goes_on=how.goes_on)
    return answer(task, how, follow)
