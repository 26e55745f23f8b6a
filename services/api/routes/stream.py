"""GET /tasks/{task_id}/stream: the log from any entry on, replayed and then live, as SSE or NDJSON."""

from typing import Annotated, Any

import structlog
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from redis.exceptions import RedisError

from plugins.transient import is_transient
from services.api.http import problems
from services.api.http.parameters import OPTIONAL, LastEventId, TaskId, Ticket, cursor_of, media_types
from services.api.http.places import Places
from services.api.http.quotas import QuotaError
from services.api.http.request_rate import PASSES, RequestRate
from services.api.identity.authentication import NEEDS, TAKES_TICKETS
from services.api.identity.caller import TASKS, Caller
from services.api.streams.formats import NDJSON, SSE
from services.api.streams.hub import Hub
from services.api.streams.response import ComeBack, open_stream
from services.api.streams.rights import right_of
from services.api.tasks.loader import TaskLoader

logger = structlog.get_logger()


@get(
    "/tasks/{task_id:str}/stream",
    summary="Follow a task",
    description=(
        "Server-Sent Events: every entry from the start, or after the cursor, then live until the end. "
        "Chunks have no event name; `attempt`, `done`, `failed`, `cancelled` and `gap` have. "
        "With `Accept: application/x-ndjson` the entries come as lines. 204 when the client has the end already. "
        "While Redis is away, or the process is full, SSE only says when to reconnect."
    ),
    tags=["tasks"],
    opt={NEEDS: TASKS, TAKES_TICKETS: True, PASSES: True},
    responses={
        200: ResponseSpec(str, description="The stream.", media_type=SSE.media_type, generate_examples=False),
        204: ResponseSpec(None, description="The client has the end already: there is nothing to come."),
        **problems.documented(400, 404, 410, 503),
    },
)
async def stream(
    task_id: TaskId,
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    last_event_id: LastEventId = None,
    query_last_event_id: Annotated[str | None, QueryParameter(name="last_event_id", include_in_schema=False)] = None,
    after: Annotated[
        str | None,
        QueryParameter(
            description="The same, for clients that cannot set headers, which may call it `last_event_id`. `-1` is the "
            "start, `tail` is now.",
            schema_extra=OPTIONAL,
        ),
    ] = None,
    ticket: Ticket = None,  # the caller was found by it
) -> Response[Any]:
    """Check everything that can fail before the first byte; then hand over to the reader."""
    # As dependencies beside `caller`, each would cost a task.
    state = request.app.state
    request_rate: RequestRate = state.request_rate
    places: Places = state.places
    loader: TaskLoader = state.loader
    hub: Hub = state.hub
    cursor = cursor_of(last_event_id=last_event_id, query=query_last_event_id, after=after)
    fmt = NDJSON if NDJSON.media_type in media_types(request) else SSE
    try:
        request_rate.count(caller.owner, caller.limits)
        if not caller.task:
            places.take(request.scope, caller.owner, caller.limits)
        task = await loader.load(task_id, caller)
        places.take(request.scope, task.owner)  # of a ticket: its stream counts as one of the owner's
    except (RedisError, QuotaError) as error:
        passes = error.passes if isinstance(error, QuotaError) else is_transient(error)
        if fmt is NDJSON or not passes:
            raise
        logger.warning("stream not opened", error=str(error))
        return ComeBack()
    return open_stream(hub, task, cursor, fmt, {}, right_of(request))
