"""POST /tasks, POST /functions/{name}/tasks: start a task; answer where it is, or its stream if `Accept` asks for it.

The stream needs no second request, so the client gets its first chunk sooner. A client that lost the connection resumes
at the task's own stream; or, if it sent an `Idempotency-Key`, by the same request with its `Last-Event-ID`.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency, Provide
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody

from services.api.http import problems
from services.api.http.parameters import Cursor, FunctionName, IdempotencyKey, LastEventId, cursor_of, media_types
from services.api.http.places import Places
from services.api.http.problems import problem
from services.api.http.root_path import prefix_of
from services.api.identity.authentication import ALSO_NEEDS, NEEDS
from services.api.identity.caller import FUNCTIONS_PREFIX, TASKS, Caller
from services.api.streams.formats import NDJSON, SSE, Format
from services.api.streams.hub import Hub
from services.api.streams.response import open_stream
from services.api.streams.rights import right_of
from services.api.tasks.submission import NewTask, Submissions

# Bytes. A longer body is a file rather than an input.
MAX_BODY: Final = 64_000

STREAM: Final = ResponseSpec(
    str,
    description=(
        "With `Accept: text/event-stream` (or `application/x-ndjson`): the task's stream, as GET answers it. "
        "`Location` and `Content-Location` are the stream's own address, `Link` with `rel=\"status\"` the task's. With "
        "an `Idempotency-Key`, the same request with a `Last-Event-ID` goes on after that entry."
    ),
    media_type=SSE.media_type,
    generate_examples=False,
)

NOTHING_TO_COME: Final = ResponseSpec(
    None, description="It goes on, and the client has the end already: there is nothing to come."
)

FROM_START: Final = Cursor(-1)


class Submitted(msgspec.Struct, frozen=True):
    """Where to find the task from now on."""

    task_id: str
    function: str
    status: str
    status_url: str
    stream_url: str
    chunks_url: str


@dataclass(frozen=True)
class Starter:
    """What both calls have in common beside the body. Litestar makes one for each request.

    The parts of the application come from its state: as dependencies beside `caller`, each would cost a task.
    """

    request: Request[Any, Any, Any]
    caller: NamedDependency[Caller]
    idempotency_key: IdempotencyKey = None
    last_event_id: LastEventId = None

    async def start(self, new_task: NewTask, pointer: list[str]) -> Response[Any]:
        """Start the task. Answer 202 and where it is; or its stream. `pointer` is the path of the input in the body.

        Raises:
            ProblemDetailsException: 400, 404, 422 or 503, as `Submissions.start` says; 400, the cursor is malformed, or
                sent without a key; 410, a stream is requested, and the log has expired.
        """
        state = self.request.app.state
        submissions: Submissions = state.submissions
        places: Places = state.places
        hub: Hub = state.hub
        fmt = stream_format(self.request)
        cursor = self._cursor() if fmt else FROM_START
        resumes = cursor != FROM_START
        if fmt is not None:  # before there is a task that nothing would follow
            places.take(self.request.scope, self.caller.owner, self.caller.limits)
        task = await submissions.start(self.caller, new_task, self.idempotency_key, pointer, resumes=resumes)
        location = f"{prefix_of(self.request.scope)}/tasks/{task.task_id}"
        stream = f"{location}/stream"
        if fmt is not None:
            # The body is the stream's, and the link is the stream's, too: its status is elsewhere (RFC 9110, 8.7;
            # RFC 8288, 3.2; RFC 8631).
            headers = {"location": stream, "content-location": stream, "link": f'<{location}>; rel="status"'}
            return open_stream(hub, task, cursor, fmt, headers, right_of(self.request))
        body = Submitted(task.task_id, task.function, task.status, location, stream, f"{location}/chunks")
        return Response(body, status_code=202, headers={"Location": location})

    def _cursor(self) -> Cursor:
        cursor = cursor_of(last_event_id=self.last_event_id)
        if cursor != FROM_START and self.idempotency_key is None:
            raise problem(
                400,
                "idempotency-key-missing",
                "Idempotency-Key missing",
                "With Last-Event-ID, but no Idempotency-Key, this would start another task. Send the key with the "
                "first request and with every repetition; or follow the task that there is: GET its stream with "
                "Last-Event-ID.",
            )
        return cursor


def stream_format(request: Request[Any, Any, Any]) -> Format | None:
    """Return the format of the stream that is requested. None, for JSON, if the client accepts JSON or has no
    `Accept`.
    """
    accepted = media_types(request)
    if MediaType.JSON in accepted:
        return None
    return next((fmt for fmt in (NDJSON, SSE) if fmt.media_type in accepted), None)


# Common to both routes that start a task.
START_TASK: Final[dict[str, Any]] = {
    "status_code": 202,
    "opt": {NEEDS: TASKS, ALSO_NEEDS: FUNCTIONS_PREFIX + "{name}"},
    "request_max_body_size": MAX_BODY,
    "responses": {200: STREAM, 204: NOTHING_TO_COME, **problems.documented(400, 404, 410, 413, 422, 503)},
    "dependencies": {"starter": Provide(Starter, sync_to_thread=False)},
}


@post("/tasks", summary="Start a task", tags=["tasks"], **START_TASK)
async def submit(data: JSONBody[NewTask], starter: NamedDependency[Starter]) -> Response[Submitted]:
    """Start a function. 202 means that the task is noted and queued; its `Location` says how it goes."""
    return await starter.start(data, ["input"])


@post("/functions/{name:str}/tasks", summary="Start a task of a function", tags=["functions"], **START_TASK)
async def submit_to(
    name: FunctionName, data: JSONBody[dict[str, Any]], starter: NamedDependency[Starter]
) -> Response[Submitted]:
    """As POST /tasks, with the function's input as the body: 202, or the stream."""
    return await starter.start(NewTask(name, data), [])
