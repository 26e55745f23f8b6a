"""CORS: browsers let pages of the listed origins read what the API answers, and send it credentials in headers.

No answer allows cookies, or what else a browser adds by itself: a page proves its caller in a header.
(https://fetch.spec.whatwg.org/#http-cors-protocol)
"""

from collections.abc import Iterable
from typing import Any, Final

from litestar.types import ASGIApp, Receive, Scope, Send

Fields = list[tuple[bytes, bytes]]

# Caches must not give the answer for one origin to a page of another, whether or not this answer is for a page.
VARY: Final = (b"vary", b"origin")

# Headers that a page may read, beside the few that it always may.
EXPOSED: Final = (b"access-control-expose-headers", b"Content-Location, ETag, Link, Location, Retry-After")

# Headers that a page may send, beside the few that it always may; and for how many seconds the browser need not ask
# again. Chromium remembers no permission for longer.
SENT: Final = [
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, X-API-Key",
    ),
    (b"access-control-max-age", b"7200"),
]


def for_origins(app: ASGIApp, listed: frozenset[str]) -> ASGIApp:
    """Return the application for pages of these origins: the application itself if there are none."""
    if not listed:
        return app

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        given: Any = scope
        fields = fields_for(given.get("headers", []), listed)
        preflight = len(fields) > 1 and _is_preflight(given)

        async def send_for_page(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *fields, *(_permission(message) if preflight else [])]
            await send(message)

        await app(scope, receive, send_for_page)

    return respond


def fields_for(headers: Iterable[tuple[bytes, bytes]], listed: frozenset[str]) -> Fields:
    """Return what the answer to a request with these headers has more, for these origins."""
    if not listed:
        return []
    origins = [value for name, value in headers if name == b"origin"]
    if len(origins) != 1 or origins[0].decode("latin-1") not in listed:
        return [VARY]
    return [VARY, (b"access-control-allow-origin", origins[0]), EXPOSED]


def _is_preflight(scope: Any) -> bool:
    """Return whether a browser asks what a page may send."""
    return scope.get("method") == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _permission(message: Any) -> Fields:
    """Return what a page may send to a path whose methods this answer to OPTIONS names."""
    return [(b"access-control-allow-methods", value) for name, value in message["headers"] if name == b"allow"] + SENT
