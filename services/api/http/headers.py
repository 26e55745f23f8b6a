"""The headers that every answer has: documents, problems and streams."""

from typing import Any, Final

from litestar import Response

# No cache keeps an answer, unless its handler says otherwise: caches may keep a 404 or a 410 without being asked to.
# No browser takes it for anything else than its media type, or lets a page of another origin embed it, or tells another
# site its address, which may have a ticket.
COMMON: Final = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

ENCODED: Final = [(name.encode(), value.encode()) for name, value in COMMON.items()]


async def complete(response: Response[Any]) -> Response[Any]:
    """Runs after every handler: add the headers that it has not set. Async, or Litestar would give it a thread."""
    present = {name.lower() for name in response.headers}
    response.headers.update({name: value for name, value in COMMON.items() if name not in present})
    return response
