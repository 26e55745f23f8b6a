"""GET /tasks/{task_id}/chunks: the log as JSON pages, with a long-poll."""

import asyncio
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.types import Receive

from services.api import foreign
from services.api.http import problems
from services.api.http.parameters import OPTIONAL, Number, TaskId, Ticket, cursor_of
from services.api.http.places import Places
from services.api.identity.authentication import NEEDS, TAKES_TICKETS
from services.api.identity.caller import TASKS, Caller
from services.api.identity.refusals import unauthenticated
from services.api.streams.formats import NDJSON
from services.api.streams.hub import Hub
from services.api.streams.pages import Pages
from services.api.streams.reader import Reader
from services.api.streams.response import disconnected, log_expired
from services.api.streams.rights import Right, right_of
from services.api.tasks.loader import TaskLoader
from services.api.tasks.task import Task

LIMIT: Final = Number(name="limit", default=100, low=1, high=1_000, whole=True)

# Nothing is sent while a page waits, and proxies give up an answer after 60 s (nginx) or 50 s (HAProxy).
WAIT: Final = Number(name="wait", default=0, low=0, high=45)

# Bytes after which a page is full, whatever its limit in entries.
MAX_BYTES: Final = 1_048_576


class Entry(msgspec.Struct, frozen=True):
    """An entry as it is stored. `at` is milliseconds since the epoch."""

    event: str
    attempt: int
    seq: int
    at: int
    data: Any


class Gap(msgspec.Struct, frozen=True):
    """The cursor, and the number of entries that the log has."""

    after: int
    length: int


class Page(msgspec.Struct, frozen=True):
    """A page, as the OpenAPI document describes it. It is written by hand, because the entries are JSON already."""

    entries: list[Entry]
    next: int
    ended: bool
    gap: Gap | msgspec.UnsetType = msgspec.UNSET


@get(
    "/tasks/{task_id:str}/chunks",
    summary="Read a page of a task's log",
    description=(
        "Entries after the cursor, as stored; `next` is the `after` of the next page, `ended` whether there is "
        "none. With `wait` it holds until there is something new. `gap` says that the cursor lies beyond the log; "
        "the page is then its first."
    ),
    tags=["tasks"],
    opt={NEEDS: TASKS, TAKES_TICKETS: True},
    responses={
        200: ResponseSpec(Page, description="A page.", generate_examples=False),
        **problems.documented(400, 404, 410, 503),
    },
)
async def chunks(
    task_id: TaskId,
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    loader: NamedDependency[TaskLoader],
    hub: NamedDependency[Hub],
    places: NamedDependency[Places],
    after: Annotated[
        str | None,
        QueryParameter(
            description="Seq of the last entry seen; `-1`, the default, is the start.", schema_extra=OPTIONAL
        ),
    ] = None,
    limit: Annotated[str | None, LIMIT.described("Entries per page")] = None,
    wait: Annotated[str | None, WAIT.described("Seconds to wait for something new")] = None,
    ticket: Ticket = None,  # the caller was found by it
) -> Response[bytes]:
    """Answer one page, with the entries as they are stored."""
    cursor = cursor_of(after=after)
    max_entries = int(LIMIT.parse(limit))
    wait_s = WAIT.parse(wait)
    task = await loader.load(task_id, caller)
    if task.expired:
        raise log_expired(task)
    start = cursor.start(task.length)
    beyond = start > task.length
    first = 0 if beyond else start
    right = right_of(request)
    waits = first == task.length and wait_s and not task.end
    if waits:
        places.take(request.scope, task.owner if caller.task else caller.owner, caller.limits)
        if not await wait_for_entry(hub, task, first, wait_s, request.receive, right):
            return Response(b"", status_code=204)  # to no client
    lines = await entries_from(hub.pages(task), first, max_entries)
    if waits and not right.holds:
        raise unauthenticated("The credential was revoked or has expired while the request waited.")
    readable = [(entry, line) for line in lines if (entry := foreign.entry_of(task_id, line))]
    ended = readable[-1][0].ends if readable else task.end is not None
    gap = b'"gap":{"after":%d,"length":%d},' % (start - 1, task.length) if beyond else b""
    page = b'{%b"entries":[%b],"next":%d,"ended":%b}' % (
        gap,
        b",".join(line for _, line in readable),
        first + len(lines) - 1,
        b"true" if ended else b"false",
    )
    return Response(page, media_type="application/json")


async def entries_from(pages: Pages, start: int, max_entries: int) -> list[bytes]:
    """Read at most this many entries, and at most a page of about `MAX_BYTES`."""
    lines: list[bytes] = []
    size = 0
    while len(lines) < max_entries and size < MAX_BYTES:
        page, page_bytes = await pages.measured(start + len(lines), start + max_entries)
        if not page:
            break
        lines += page
        size += page_bytes
    return lines


async def wait_for_entry(hub: Hub, task: Task, cursor: int, wait_s: float, receive: Receive, right: Right) -> bool:
    """Wait until the log has an entry at `cursor`, this time has passed, the right has ended, or the client has
    disconnected.

    Return whether the client is still there.
    """
    reader = hub.open(task, NDJSON, cursor, lambda: None)
    waiting = asyncio.create_task(_arrival(hub, reader))
    leaving = asyncio.create_task(disconnected(receive))
    try:
        with right.watched(waiting.cancel):
            await asyncio.wait([waiting, leaving], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        return not leaving.done()
    finally:
        waiting.cancel()
        leaving.cancel()
        hub.close(reader)


async def _arrival(hub: Hub, reader: Reader) -> None:
    """Wait until there is something for the reader, or nothing will come. It reads no page: `chunks` does."""
    while not (hub.draining or reader.take() or reader.behind or reader.ended):
        await reader.tail.waiters.changed()
