"""GET /tasks/{task_id}/stream: the log from any entry on, replayed and then live, as SSE or NDJSON."""

from typing import Annotated, Any, Final, NamedTuple

from litestar import Request, Response, get
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from services.api.connection import Connection
from services.api.cursor import Cursor, LastEventId, cursor_of, gone
from services.api.frames import NDJSON, SSE, Format
from services.api.hub import Hub
from services.api.lookup import LookUp
from services.api.reader import gap
from services.api.task import Task
from services.api.writer import Writer

HEADERS: Final = [
    (b"cache-control", b"no-store"),  # a stream is not a document to keep
    (b"x-accel-buffering", b"no"),  # nginx would hold it back
    (b"x-content-type-options", b"nosniff"),
]


class EventStream(Response[Any]):
    """A response that writes what a reader reads, until its end, the client's, or the process's.

    Litestar's own streams wait in a generator, whose clean-up does not run for certain when a client leaves while the
    server waits to send (litestar#3772). Here the clean-up is synchronous, in the response itself.
    """

    def __init__(
        self, hub: Hub, task: Task, written: Format, start: int, send_timeout_s: float, headers: dict[str, str]
    ) -> None:
        super().__init__(content=None)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._hub = hub
        self._task = task
        self._format = written
        self._start = start
        self._send_timeout_s = send_timeout_s

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # an app is all it must be
        """The response is its own ASGI application."""
        return self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(receive)
        beyond = self._start > self._task.length
        hello = self._format.hello()
        if beyond:
            hello += self._format.notice("gap", gap(self._start - 1, self._task.length))
        headers = [(b"content-type", self._format.media_type.encode()), *HEADERS, *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        reader = self._hub.open(self._task, self._format, 0 if beyond else self._start, connection.abort)
        writer = Writer(self._hub, reader, send, connection, self._send_timeout_s)
        try:
            writer.start(hello)
            # Comes when the client is gone, and when the response is complete.
            # (https://asgi.readthedocs.io/en/stable/specs/www.html#disconnect-receive-event)
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            writer.stop()
            self._hub.close(reader)


class Follow(NamedTuple):
    """Answers with a stream of a task."""

    hub: Hub
    send_timeout_s: float

    def __call__(self, task: Task, cursor: Cursor, written: Format, headers: dict[str, str]) -> Response[Any]:
        """Its log from the cursor on; 204 where the client has the end already. `headers` are further ones.

        Raises:
            ProblemDetailsException: 410, the log is not kept any more.
        """
        if task.expired:
            raise gone(task)
        start = cursor.start(task.length)
        if task.end and start == task.length:
            return Response(None, status_code=204, headers=headers)
        return EventStream(self.hub, task, written, start, self.send_timeout_s, headers)


def media_types(request: Request[Any, Any, Any]) -> set[str]:
    """What the header `Accept` names, without parameters."""
    named = ",".join(request.headers.getall("accept", [])).lower().split(",")
    return {each.partition(";")[0].strip() for each in named}


@get(
    "/tasks/{task_id:str}/stream",
    summary="Follow a task",
    description=(
        "Server-Sent Events: every entry from the start, or after the cursor, then live until the end. "
        "Chunks have no event name; `attempt`, `done`, `failed`, `cancelled` and `gap` have. "
        "With `Accept: application/x-ndjson` the entries come as lines. 204 when the client has the end already."
    ),
    media_type=MediaType.TEXT,
    tags=["tasks"],
    responses={204: ResponseSpec(None, description="The client has the end already: there is nothing to come.")},
)
async def stream(
    task_id: str,
    request: Request[Any, Any, Any],
    owner: str,
    look_up: LookUp,
    follow: Follow,
    last_event_id: LastEventId = None,
    query_last_event_id: Annotated[
        str | None, QueryParameter(name="last_event_id", description="The same, for clients that cannot set headers.")
    ] = None,
    after: Annotated[
        str | None, QueryParameter(name="after", description="The same. `-1` is the start, `tail` is now.")
    ] = None,
) -> Response[Any]:
    """Decide everything that can go wrong before the first byte; then hand over to the reader."""
    cursor = cursor_of(last_event_id=last_event_id, query=query_last_event_id, after=after)
    written = NDJSON if NDJSON.media_type in media_types(request) else SSE
    return follow(await look_up(task_id, owner), cursor, written, {})
