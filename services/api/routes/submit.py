"""POST /tasks, POST /functions/{name}/tasks: start a task; answer where it is, or its stream if `Accept` asks for it.

The stream needs no second request, so the client gets its first chunk sooner. A client that lost the connection resumes
at the task's own stream; or, if it sent an `Idempotency-Key`, by the same request with its `Last-Event-ID`.
"""

from typing import Any, Final, NamedTuple

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody

from services.api.http.negotiation import media_types
from services.api.http.parameters import Cursor, FunctionName, IdempotencyKey, LastEventId, cursor_of
from services.api.http.problems import malformed, problem
from services.api.streams.formats import NDJSON, SSE, Format
from services.api.streams.response import Streams
from services.api.tasks.submission import NewTask, Submissions
from services.api.tasks.task import Task

# Bytes. A longer body is a file rather than an input.
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

NOTHING_TO_COME: Final = ResponseSpec(
    None, description="It goes on, and the client has the end already: there is nothing to come."
)

# Common to both routes that start a task.
START_TASK: Final[dict[str, Any]] = {
    "status_code": 202,
    "request_max_body_size": MAX_BODY,
    "exception_handlers": {RecursionError: malformed, UnicodeDecodeError: malformed},
    "responses": {200: STREAM, 204: NOTHING_TO_COME},
}

FROM_START: Final = Cursor(-1)


class Submitted(msgspec.Struct, frozen=True):
    """Where to find the task from now on."""

    task_id: str
    function: str
    status: str
    status_url: str
    stream_url: str
    chunks_url: str


class AnswerOptions(NamedTuple):
    """How to answer a request: with a stream in this format, from the cursor on; with JSON if the format is None."""

    stream_format: Format | None
    cursor: Cursor
    resumes: bool  # a stream that exists: the request starts no task


def answer_options(
    request: Request[Any, Any, Any], idempotency_key: str | None, last_event_id: str | None
) -> AnswerOptions:
    """Read `Accept` and `Last-Event-ID`. A client that accepts JSON, or has no `Accept`, gets JSON.

    Raises:
        ProblemDetailsException: 400, the cursor is malformed, or sent without a key, so that it would start another
            task.
    """
    accepted = media_types(request)
    stream_format = None
    if MediaType.JSON not in accepted:
        stream_format = next((fmt for fmt in (NDJSON, SSE) if fmt.media_type in accepted), None)
    cursor = cursor_of(last_event_id=last_event_id if stream_format else None)
    resumes = cursor != FROM_START
    if resumes and idempotency_key is None:
        raise problem(
            400,
            "idempotency-key-missing",
            "Idempotency-Key missing",
            "With Last-Event-ID, but no Idempotency-Key, this would start another task. Send the key with the first "
            "request and with every repetition; or follow the task that there is: GET its stream with Last-Event-ID.",
        )
    return AnswerOptions(stream_format, cursor, resumes)


def answer(task: Task, options: AnswerOptions, streams: Streams) -> Response[Any]:
    """Answer 202 and where the task is; or its stream.

    Raises:
        ProblemDetailsException: 410, a stream is requested, and the log has expired.
    """
    location = f"/tasks/{task.task_id}"
    stream = f"{location}/stream"
    if options.stream_format is not None:
        headers = {"location": location, "content-location": stream}
        return streams.open_stream(task, options.cursor, options.stream_format, headers)
    body = Submitted(task.task_id, task.function, task.status, location, stream, f"{location}/chunks")
    return Response(body, status_code=202, headers={"Location": location})


@post(
    "/tasks",
    summary="Start a task",
    **START_TASK,
    tags=["tasks"],
)
async def submit(
    data: JSONBody[NewTask],
    owner: NamedDependency[str],
    submissions: NamedDependency[Submissions],
    streams: NamedDependency[Streams],
    request: Request[Any, Any, Any],
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = None,
) -> Response[Submitted]:
    """Start a function. 202 means that the task is noted and queued; its `Location` says how it goes."""
    options = answer_options(request, idempotency_key, last_event_id)
    task = await submissions.start(owner, data, idempotency_key, ["input"], resumes=options.resumes)
    return answer(task, options, streams)


@post(
    "/functions/{name:str}/tasks",
    summary="Start a task of a function",
    **START_TASK,
    tags=["functions"],
)
async def submit_to(
    name: FunctionName,
    data: JSONBody[dict[str, Any]],
    owner: NamedDependency[str],
    submissions: NamedDependency[Submissions],
    streams: NamedDependency[Streams],
    request: Request[Any, Any, Any],
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = None,
) -> Response[Submitted]:
    """As POST /tasks, with the function's input as the body: 202, or the stream."""
    options = answer_options(request, idempotency_key, last_event_id)
    task = await submissions.start(owner, NewTask(name, data), idempotency_key, [], resumes=options.resumes)
    return answer(task, options, streams)
