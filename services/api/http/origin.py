"""Keeping other sites out: a page that the operator visits must not start functions on the operator's machine.

There is no authentication yet, so nothing else tells the operator's own requests from those of a page in the same
browser. Browsers say where a request comes from; curl and other programs say nothing, and may.
"""

from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Request
from litestar.plugins.problem_details import ProblemDetailsException

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
    site, origin, host = (request.headers.get(name) for name in ("sec-fetch-site", "origin", "host"))
    if site is not None:
        # The browser compares what it has asked for, which a proxy may have changed; and no page can forge it.
        if site not in ("same-origin", "none"):
            raise _foreign("The browser says that a page of another site sent this. Ask from a page of this site.")
    elif origin is not None and urlsplit(origin).netloc != host:
        raise _foreign(
            f"A page of {origin:.100} sent this, and it came for {host!s:.100}. If they are the same site, the proxy "
            "before the API must pass the header Host on as the browser sent it; in nginx: "
            "proxy_set_header Host $http_host;"
        )


def _foreign(detail: str) -> ProblemDetailsException:
    return problem(403, "foreign-origin", "Foreign origin", detail)
