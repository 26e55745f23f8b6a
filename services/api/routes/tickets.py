"""POST /tasks/{task_id}/tickets: a ticket, by which a client that sends no header may read the task."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency

from services.api.http import problems
from services.api.http.parameters import TaskId
from services.api.http.problems import problem
from services.api.http.root_path import prefix_of
from services.api.identity.authentication import NEEDS
from services.api.identity.caller import TASKS, Caller
from services.api.identity.tickets import Tickets
from services.api.streams.response import log_expired
from services.api.tasks.loader import TaskLoader


class Made(msgspec.Struct, frozen=True):
    """A ticket, and the address that it opens. Times are milliseconds since the epoch."""

    ticket: str
    stream_url: str
    open_until: int
    stream_until: int


@post(
    "/tasks/{task_id:str}/tickets",
    summary="Make a ticket",
    description=(
        "For an `EventSource`, which sends no `Authorization`. `stream_url` may be opened until `open_until`, as often "
        "as the client likes, and a stream stays open until `stream_until` at the latest. A ticket reads the task's "
        "stream and pages (`?ticket=`), and nothing else."
    ),
    tags=["tasks"],
    opt={NEEDS: TASKS},
    responses=problems.documented(400, 404, 410, 501, 503),
)
async def make_ticket(
    task_id: TaskId,
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    loader: NamedDependency[TaskLoader],
    tickets: NamedDependency[Tickets],
) -> Response[Made]:
    """Tickets are kept nowhere: the API knows its own by their signature."""
    if not tickets.on:
        raise problem(
            501,
            "no-tickets",
            "No tickets",
            "This API makes no tickets: its setting TAILRACE_TICKET_KEYS is not set.",
            setting="TAILRACE_TICKET_KEYS",
        )
    task = await loader.load(task_id, caller)
    if task.expired:
        raise log_expired(task)
    ticket = tickets.make(task.task_id, caller)
    stream_url = f"{prefix_of(request.scope)}/tasks/{task.task_id}/stream?ticket={ticket.text}"
    return Response(Made(ticket.text, stream_url, ticket.open_until, ticket.stream_until), status_code=201)
