"""Keeping other sites out: a page that the operator visits must not start functions on the operator's machine.

There is no authentication yet, so nothing else tells the operator's own requests from those of a page in the same
browser. Browsers say where a request comes from; curl and other programs say nothing, and may.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Request

from services.api.http.problems import problem

# What changes something. Reading across origins the browser prevents, as no answer carries a CORS header.
CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


async def refuse_foreign(request: Request[Any, Any, Any]) -> None:
    """Runs before every handler. Async, although it waits for nothing: Litestar would give it a thread each time.

    Raises:
        ProblemDetailsException: 403, a browser says that another site sent this.
    """
    if request.method not in CHANGING:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or site not in (None, "same-origin", "none"):
        raise problem(
            403, "foreign-origin", "Foreign origin", "Another site may not send this: ask from a page of ours."
        )
