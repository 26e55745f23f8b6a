"""What POST answers: where the task is, or, to those who ask for it, the task's stream.

The stream needs no second request, so its first chunk comes sooner. A client that lost it goes on at the task's own
stream; or, where it sent an `Idempotency-Key`, by sending the same request again with the `Last-Event-ID` it has.
"""

from typing import Any, Final, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec

from services.api.cursor import Cursor, cursor_of
from services.api.frames import NDJSON, SSE, Format
from services.api.problems import problem
from services.api.stream import Follow, media_types
from services.api.task import Task

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
