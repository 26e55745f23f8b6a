"""The path prefix under which a proxy publishes the API: ASGI's root path, uvicorn's `--root-path`."""

from litestar.types import ASGIApp, Receive, Scope, Send


def prefix_of(scope: Scope) -> str:
    """Return the prefix, which stands before every path that a client is told; empty if there is none."""
    return scope.get("root_path", "")


def for_any_proxy(app: ASGIApp) -> ASGIApp:
    """Return the application for proxies that strip the prefix, and for proxies that keep it.

    The server puts the prefix before every path, as if each proxy had stripped it.
    """

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if "path" in scope and (given := scope.get("root_path")):
            prefix = given.rstrip("/")
            path, raw = scope["path"].removeprefix(given), scope["raw_path"].removeprefix(given.encode())
            kept = path.startswith(f"{prefix}/")
            scope["root_path"], scope["path"] = prefix, path if kept else prefix + path
            scope["raw_path"] = raw if kept else prefix.encode() + raw
        await app(scope, receive, send)

    return respond
