"""Keeping other sites out: a page that the operator visits must neither start functions on the operator's machine nor
read what they do.

Without authentication nothing else tells the operator's own requests from those of a page in the same browser. Browsers
say where a request comes from; curl and other programs say nothing, and may.
"""

from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.plugins.problem_details import ProblemDetailsException

from services.api.hosts import UNLISTED, Host, host_of, is_allowed
from services.api.http.problems import problem
from services.api.origins import DEFAULT_PORTS
from services.api.settings import Settings

# What changes something. Reading across origins the browser prevents, as the answer carries no CORS header for it.
CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


async def refuse_foreign(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Runs before every handler whose answers are private. Async, although it waits for nothing: Litestar would give
    it a thread each time.

    Raises:
        ProblemDetailsException: 403, a browser has come by a name that is not known to be this API's, or says that
            another site sent this, which the operator does not list.
    """
    host = _known_host(connection)
    scope: Any = connection.scope
    if scope["method"] in CHANGING:
        _refuse_other_sites(connection, host)


def _known_host(connection: ASGIConnection[Any, Any, Any, Any]) -> Host | None:
    """Return the host of the request: `Host` alone. A client may write anything into `X-Forwarded-Host`.

    A page that comes by a name of its own has no credential. So with authentication any host will do, unless the
    operator lists some; or a proxy names callers, perhaps by what browsers send by themselves.
    """
    settings: Settings = connection.app.state.settings
    any_will_do = settings.auth and "proxy" not in settings.auth and settings.allowed_hosts == UNLISTED
    hosts = connection.headers.getall("host", [])
    for given in hosts or [""]:
        if not is_allowed(host := host_of(given), settings.allowed_hosts) and not any_will_do:
            raise problem(
                403,
                "host-not-allowed",
                "Host not allowed",
                f"The request came for the host {given!r:.100}. Ask for localhost, or let TAILRACE_ALLOWED_HOSTS of "
                "the API list the names by which clients reach it.",
            )
    return host


def _refuse_other_sites(connection: ASGIConnection[Any, Any, Any, Any], host: Host | None) -> None:
    site = connection.headers.get("sec-fetch-site")
    origins = connection.headers.getall("origin", [])
    settings: Settings = connection.app.state.settings
    if len(origins) == 1 and origins[0] in settings.cors_origins:
        return
    # The browser compares what it has asked for, which a proxy may have changed; and no page can forge it.
    if site is not None and site not in ("same-origin", "none"):
        raise _foreign(
            "The browser says that a page of another site sent this. Ask from a page of this site, or let "
            "TAILRACE_CORS_ORIGINS of the API list the page's origin."
        )
    for origin in origins:
        source = _source(origin)
        # A browser may hide where its own page comes from.
        if source is None and not (site is not None and origin == "null"):
            raise _foreign(f"The header Origin is {origin!r:.100}, which names no site. Ask from a page of this site.")
        if site is None and source is not None and not _same(source, host):
            raise _foreign(
                f"A page of {origin!r:.100} sent this, and it came for {connection.headers.get('host', '')!r:.100}. If "
                "they are the same site, the proxy before the API must pass the header Host on as the browser sent it; "
                "in nginx: `proxy_set_header Host $http_host;`. If not, TAILRACE_CORS_ORIGINS of the API may list this "
                "origin."
            )


def _source(origin: str) -> Host | None:
    """Return the host of an origin, with its port; None if it is not of the form `https://host` or `http://host`."""
    scheme, separator, rest = origin.partition("://")
    host = host_of(rest)
    if not separator or host is None or scheme not in DEFAULT_PORTS:
        return None
    return host._replace(port=host.port or DEFAULT_PORTS[scheme])


def _same(source: Host, host: Host | None) -> bool:
    if host is None:
        return False
    ports = {host.port} if host.port is not None else set(DEFAULT_PORTS.values())
    return source.name == host.name and source.port in ports


def _foreign(detail: str) -> ProblemDetailsException:
    return problem(403, "foreign-origin", "Foreign origin", detail)
