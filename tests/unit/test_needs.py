"""Every handler of the API says what its callers need, and is called only by those that have it."""

import httpx
import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute

from services.api.app import check, create_app
from services.api.http import problems
from services.api.identity.authentication import ANY, NEEDS, OPEN, Authentication, identify_caller
from services.api.identity.caller import ADMIN, TASKS
from services.api.identity.tickets import Tickets
from services.api.settings import Settings


def test_each_handler_says_what_it_needs() -> None:
    """One of those that there are; and the guard that looks at it runs before all others."""
    handlers = {
        f"{method} {route.path_format}": handler
        for route in create_app(Settings()).routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS"
    }
    assert len(handlers) > 10
    assert [name for name, each in handlers.items() if each.opt.get(NEEDS) not in (OPEN, ANY, TASKS, ADMIN)] == []
    assert [name for name, each in handlers.items() if each.resolve_guards()[0] is not check] == []


@pytest.mark.anyio
async def test_a_handler_that_does_not_say_takes_no_call() -> None:
    """Not even from callers that may do everything: a new call is closed until it is decided."""

    @get("/said", opt={NEEDS: OPEN})
    async def said() -> str:
        return "open"

    @get("/unsaid")
    async def unsaid() -> str:
        return "open"

    app = Litestar([said, unsaid], guards=[identify_caller], plugins=[problems.plugin], openapi_config=None)
    app.state.authentication = Authentication(None, Tickets([], 1, 1))
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Litestar types the messages
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert [(await client.get(path)).status_code for path in ("/said", "/unsaid")] == [200, 403]
