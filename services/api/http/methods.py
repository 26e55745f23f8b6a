"""The methods of a path: HEAD is the head of GET's answer, and OPTIONS names them all."""

from typing import Any, Final

from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send

# In the scope of a request whose client wants the head of the answer alone. Its method is GET.
HEAD_ONLY: Final = "tailrace.head_only"


def head_as_get(app: ASGIApp) -> ASGIApp:
    """Return the application with HEAD wherever it has GET. The server sends no body: its own scope says HEAD."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        given: Any = scope
        if given.get("method") == "HEAD":
            given = {**given, "method": "GET", HEAD_ONLY: True}
        await app(given, receive, send)

    return respond


def is_head(scope: Scope) -> bool:
    """Return whether the client wants the head of the answer alone."""
    return HEAD_ONLY in scope


async def options(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Answer OPTIONS: Litestar names the methods of the first handler of a path. Return None for other methods."""
    if request.method != "OPTIONS":
        return None
    path: Any = request.scope["path_template"]
    names = {method for method, template in request.app.state.declared if template == path}
    return Response(None, status_code=204, headers={"Allow": allow(names)})


def allow(names: set[str]) -> str:
    """Return the header `Allow` of a path with handlers for these methods."""
    return ", ".join(sorted(names | {"HEAD"} if "GET" in names else names))
