"""A task's stream as a response: it starts, follows a reader, and ends."""

from typing import Any, Final

from litestar import Response
from litestar.plugins.problem_details import ProblemDetailsException
from litestar.types import ASGIApp, Receive, Scope, Send

from services.api.http.headers import ENCODED
from services.api.http.methods import is_head
from services.api.http.parameters import Cursor
from services.api.http.problems import problem
from services.api.streams.formats import SSE, Format
from services.api.streams.hub import Hub
from services.api.streams.rights import Right
from services.api.streams.transport import Connection
from services.api.streams.writer import Writer
from services.api.tasks.task import Task

HEADERS: Final = [
    *ENCODED,
    (b"x-accel-buffering", b"no"),  # nginx would hold it back
]


class Streamed(Response[Any]):
    """A response that is an ASGI application of its own."""

    def __init__(self) -> None:
        super().__init__(content=None)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # an app is all it must be
        """Return the ASGI application, which is the response itself."""
        return self._respond

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError


async def begin(fmt: Format, headers: list[tuple[bytes, bytes]], scope: Scope, send: Send) -> bool:
    """Send the head of a stream. Return whether its body must follow: after HEAD the answer is complete."""
    headers = [(b"content-type", fmt.media_type.encode()), *HEADERS, *headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if is_head(scope):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    return not is_head(scope)


class ComeBack(Streamed):
    """SSE that only says when to reconnect. At another status than 200 an `EventSource` gives up for good.

    (https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model)
    """

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(receive)
        if not await begin(SSE, [], scope, send):
            return
        await send({"type": "http.response.body", "body": SSE.closing(), "more_body": connection.reachable})
        connection.close()
        await disconnected(receive)


class EventStream(Streamed):
    """A response that writes what a reader reads, until the stream or the caller's right ends, the client disconnects,
    or the process stops.

    Litestar's own streams wait in a generator, whose clean-up is not certain to run if a client disconnects while the
    server waits to send (litestar#3772). Here the clean-up is synchronous, in the response itself.
    """

    def __init__(self, hub: Hub, task: Task, fmt: Format, start: int, headers: dict[str, str], right: Right) -> None:
        super().__init__()
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._hub = hub
        self._task = task
        self._format = fmt
        self._start = start
        self._right = right

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await begin(self._format, self._headers, scope, send):
            return
        connection = Connection(receive)
        beyond = self._start > self._task.length
        preamble = self._format.preamble()
        if beyond:
            preamble += self._format.gap(self._start - 1, self._task.length)
        reader = self._hub.open(self._task, self._format, 0 if beyond else self._start, connection.abort)
        writer = Writer(self._hub, reader, send, connection)
        try:
            with self._right.watched(writer.end):
                writer.wake(preamble)
                await disconnected(receive)
        finally:
            writer.stop()
            self._hub.close(reader)


async def disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected, or the response is complete.

    (https://asgi.readthedocs.io/en/stable/specs/www.html#disconnect-receive-event)
    """
    while (await receive())["type"] != "http.disconnect":
        pass


def open_stream(
    hub: Hub, task: Task, cursor: Cursor, fmt: Format, headers: dict[str, str], right: Right
) -> Response[Any]:
    """Answer with the task's log from the cursor on, as long as the caller has this right; 204 if the client has the
    end already. `headers` are added.

    Raises:
        ProblemDetailsException: 410, the log has expired.
    """
    if task.expired:
        raise log_expired(task)
    start = cursor.start(task.length)
    if task.end and start == task.length:
        return Response(None, status_code=204, headers=headers)
    return EventStream(hub, task, fmt, start, headers, right)


def log_expired(task: Task) -> ProblemDetailsException:
    """410: the task is known, but its log has expired."""
    return problem(
        410,
        "expired",
        "Log expired",
        f"The task ended as {task.recorded_status}, and its log is not kept any more. "
        f"GET /tasks/{task.task_id} still says how it ended.",
    )
