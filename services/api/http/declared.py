"""Rejects what a call does not declare: an unknown parameter in the query, and two values where there is one.

A parameter that is ignored in silence does harm: `?afer=6` would replay a whole task. The routes' own declarations say
which ones there are, those of its dependencies included.
"""

from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from litestar import Litestar
from litestar._kwargs import KwargsModel
from litestar.connection import ASGIConnection
from litestar.routes import HTTPRoute

from services.api.http.problems import problem

# Headers with one value that every call reads, beside those that it declares.
HEADERS: Final = frozenset({"Host", "Origin", "Sec-Fetch-Site"})


class Declared(NamedTuple):
    """What a call takes: the parameters of its query, by their `spelling`; and the headers that have one value."""

    query: dict[str, str]
    headers: frozenset[str]


def spelling(name: str) -> str:
    """Return what all spellings of a name have in common: clients send `lastEventId` as well as `last_event_id`."""
    return name.lower().replace("-", "").replace("_", "")


def of(app: Litestar) -> dict[tuple[str, str], Declared]:
    """Return what each call of this application declares, by its method and its path with placeholders."""
    return {
        (method, route.path_format): _declared(model)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (_, model) in route.route_handler_map.items()
    }


def _declared(model: KwargsModel) -> Declared:
    query = {spelling(each.field_alias): each.field_alias for each in model.expected_query_params}
    return Declared(query, HEADERS.union(each.field_alias for each in model.expected_header_params))


def refuse_undeclared(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Runs before every handler, which then finds each parameter once and under its own name.

    Raises:
        ProblemDetailsException: 400, a parameter is unknown, or a parameter or a header has two values.
    """
    scope: Any = connection.scope
    if scope["method"] == "OPTIONS":
        return
    call = scope["method"], scope["path_template"]
    declared: Declared = connection.app.state.declared[call]
    for name in declared.headers:
        if len({value.strip(" \t") for value in connection.headers.getall(name, [])}) > 1:
            raise _repeated("header", name)
    if scope["query_string"]:
        scope["query_string"] = urlencode(
            _query(call, declared.query, scope["query_string"].decode("latin-1"))
        ).encode()


def _query(call: tuple[str, str], known: dict[str, str], query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for given, value in parse_qsl(query, keep_blank_values=True):
        name = known.get(spelling(given))
        if name is None:
            names = sorted(known.values())
            raise problem(
                400,
                "unknown-parameter",
                "Unknown parameter",
                f"There is no parameter {given[:100]!r}: {' '.join(call)} takes {', '.join(names) or 'none'}.",
                known=names,
            )
        if values.setdefault(name, value) != value:
            raise _repeated("parameter", name)
    return values


def _repeated(kind: str, name: str) -> Exception:
    return problem(
        400, f"repeated-{kind}", f"Repeated {kind}", f"The {kind} {name} has several values. It may have one."
    )
