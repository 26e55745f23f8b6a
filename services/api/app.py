"""The API: `uvicorn --factory services.api.app:create_app --http services.api.http.guard:Guard`."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from secrets import token_urlsafe
from types import FrameType
from typing import Any, Final

import structlog
from litestar import Litestar, Router
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from redis.asyncio import Redis

from services.api import logs, redis_version
from services.api.catalog import Catalog
from services.api.http import (
    cors,
    declared,
    guard,
    headers,
    methods,
    origin,
    places,
    problems,
    request_rate,
    root_path,
    spelling,
)
from services.api.http.body import JSONRequest
from services.api.http.documents import Documents
from services.api.http.places import Places
from services.api.http.quotas import Quota
from services.api.http.request_rate import RequestRate
from services.api.identity import authentication
from services.api.identity.authentication import ANY, NEEDS, Authentication
from services.api.identity.tickets import Tickets
from services.api.identity.verification import Verification
from services.api.redis_client import Pools, pools_of
from services.api.routes import chunks, functions, health, openapi, stream, submit, task, tickets
from services.api.settings import Settings
from services.api.streams.hub import Hub
from services.api.streams.rights import Rights
from services.api.tasks.cancel import Cancels
from services.api.tasks.contact import Contact
from services.api.tasks.limits import Limiter
from services.api.tasks.loader import TaskLoader
from services.api.tasks.memory import Memory
from services.api.tasks.open_tasks import OpenTasks
from services.api.tasks.recovery import Recovery
from services.api.tasks.submission import Submissions

# Parts of the running application that handlers may have.
PARTS: Final = (
    "redis",
    "catalog",
    "documents",
    "loader",
    "hub",
    "cancels",
    "memory",
    "places",
    "tickets",
)

logger = structlog.get_logger()


def create_app(settings: Settings | None = None, connect: Callable[[str, int], Pools] = pools_of) -> Litestar:
    """Create the application. It starts even if Redis is unreachable; then /health/ready answers 503.

    `connect` makes its connections to Redis.

    Raises:
        SystemExit: an environment variable is wrong; the message names it.
    """
    settings = settings or Settings.read()
    logs.configure(settings.log_format)
    logs.forward_libraries()
    # Not for pages of other sites. The calls of /health are for all: probes ask by the address of a pod.
    private = Router(
        "/",
        route_handlers=[
            submit.submit,
            submit.submit_to,
            task.status,
            task.list_tasks,
            stream.stream,
            chunks.chunks,
            tickets.make_ticket,
            task.cancel,
            functions.list_functions,
            functions.get_function,
            functions.pause,
            functions.resume,
        ],
        guards=[origin.refuse_foreign],
    )
    app = Litestar(
        route_handlers=[private, health.live, health.ready],
        lifespan=[lifespan],
        state=State({"settings": settings, "connect": connect, "verification": Verification(settings)}),
        dependencies={
            "caller": Provide(authentication.caller, sync_to_thread=False),
            **{name: _from_state(name) for name in PARTS},
        },
        plugins=[problems.plugin],
        logging_config=None,  # of Litestar's own, beside ours
        request_class=JSONRequest,
        guards=[check],
        before_request=methods.options,
        after_request=headers.complete,
        openapi_config=OpenAPIConfig(
            title="Tailrace",
            version="0.1.0",
            description="Start a plug-in function over REST, follow its output over SSE, come back, miss nothing.",
            openapi_router=Router(
                "/schema",
                route_handlers=[],
                include_in_schema=False,
                opt={NEEDS: ANY},
                guards=[origin.refuse_foreign],
                before_request=openapi.current,
                after_request=problems.instead_of_html,
            ),
            render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        ),
    )
    answering = methods.head_as_get(places.given_back(root_path.for_any_proxy(app.asgi_handler)))
    app.asgi_handler = cors.for_origins(answering, settings.cors_origins)
    return app


async def check(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Runs before every handler. One guard for all checks, because Litestar copies the handler for each guard.

    Raises:
        OwnerRateError, ProblemDetailsException: as each of them says.
    """
    authentication.identify_caller(connection, handler)
    request_rate.refuse_excess(connection, handler)
    spelling.refuse_others(connection)
    declared.refuse_undeclared(connection)


def _from_state(name: str) -> Provide:
    def provide(state: State) -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Open the connections and start the background tasks, and stop them.

    Nothing here waits for Redis. An identity provider has two seconds to answer.
    """
    settings: Settings = app.state.settings
    guarded = guard.prepare()
    app.state.declared = declared.of(app)
    app.state.places = Places(
        Quota(settings.streams, "TAILRACE_STREAMS"), Quota(settings.owner_streams, "TAILRACE_OWNER_STREAMS")
    )
    app.state.request_rate = RequestRate(
        Quota(settings.owner_requests, "TAILRACE_OWNER_REQUESTS"), settings.owner_burst
    )
    verification: Verification = app.state.verification
    # Where no ticket is needed, each process makes its own, which every other takes, too.
    secrets = settings.ticket_keys or (() if settings.auth else (token_urlsafe(),))
    made = app.state.tickets = Tickets(secrets, settings.ticket_open_s, settings.ticket_stream_s)
    known = app.state.authentication = Authentication(
        verification.verify if settings.auth else None, made, verification.proxy_header, settings.auth
    )
    rights = app.state.rights = Rights(known, settings.heartbeat_s)
    pools: Pools = app.state.connect(settings.redis_url, settings.redis_connections)
    redis = app.state.redis = Redis.from_pool(pools.commands)
    catalog = app.state.catalog = Catalog(redis)
    app.state.documents = Documents()
    loader = app.state.loader = TaskLoader(redis)
    hub = app.state.hub = Hub(redis, settings, pools.subscriber)
    memory = app.state.memory = Memory(redis, settings.memory_share)
    limiter = Limiter(redis, settings.unclaimed_s)
    open_tasks = OpenTasks(
        Quota(settings.owner_tasks, "TAILRACE_OWNER_TASKS"),
        Quota(settings.tasks, "TAILRACE_TASKS"),
        Quota(settings.waiting_tasks, "TAILRACE_WAITING_TASKS"),
    )
    app.state.submissions = Submissions(
        redis, catalog, limiter, settings.unclaimed_s, settings.input_ttl_s, memory, open_tasks
    )
    app.state.cancels = Cancels(redis, loader, limiter, settings.cancelled_ttl_s)
    contact = Contact(redis, settings.lease_s)
    recovery = Recovery(redis, limiter, contact, settings)
    background_tasks = [
        asyncio.create_task(supervised("hub", hub.run)),
        asyncio.create_task(supervised("contact", contact.run)),
        asyncio.create_task(supervised("memory", memory.run)),
        asyncio.create_task(supervised("recovery", recovery.run)),
        asyncio.create_task(supervised("rights", rights.run)),
        asyncio.create_task(redis_version.report(redis)),
        *(asyncio.create_task(supervised(name, run)) for name, run in verification.background(known.forget).items()),
    ]
    if not settings.auth:
        logger.warning("no authentication", meaning="each client that reaches this process may do everything")
    if "proxy" in settings.auth and not guarded:
        logger.error("no proxy can name a caller", remedy="the server must be the one that knows the peer, as above")
    restore = drain_on_signal(hub)
    try:
        await verification.first()
        yield
    finally:
        restore()
        for background_task in background_tasks:
            background_task.cancel()
        limiter.close()
        await redis.aclose()


async def supervised(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a background task that never returns. If it crashes nevertheless, log that and restart it."""
    while True:
        try:
            await run()
        # It catches the errors that are expected; this is for a fault in its code. A process that serves without its
        # hub would be worse than one that logs.
        except Exception:
            logger.exception("background task crashed, restarting", background_task=name)
        await asyncio.sleep(1)


def drain_on_signal(hub: Hub) -> Callable[[], None]:
    """End all streams on SIGTERM and SIGINT. Return a function that restores the previous handlers.

    uvicorn waits for open connections before it shuts the lifespan down, so that would be too late. Its own handler is
    called after this one.
    """
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(hub.drain)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
