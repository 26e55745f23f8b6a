"""What the OpenAPI document says of callers: how they prove their identity, and which scopes a call needs.

The document describes this API. Without authentication it says nothing of callers: else a generated client would ask
for a credential that there is not.
"""

from collections.abc import Iterable
from typing import Any, Final

from litestar.routes import BaseRoute, HTTPRoute

from services.api.http.every_call import CONTENT
from services.api.identity.authentication import ALSO_NEEDS, ANY, NEEDS, OPEN, TAKES_TICKETS
from services.api.identity.caller import FUNCTIONS_PREFIX, TASKS
from services.api.ways import Way

# Names of the schemes.
BEARER: Final = "bearer"
API_KEY: Final = "apiKey"

# Both the scheme and its parameter.
TICKET: Final = "ticket"

# What a bearer's credential is, and its format.
CREDENTIALS: Final[dict[frozenset[Way], tuple[str, str]]] = {
    frozenset({"keys"}): ("An API key.", "API key"),
    frozenset({"jwt"}): ("A token of the identity provider.", "JWT"),
    frozenset({"keys", "jwt"}): ("An API key, or a token of the identity provider.", "API key or JWT"),
}


class SecuritySchemes:
    """The schemes of an API with these ways. A proxy that names callers is none: what it asks for is its own affair."""

    def __init__(self, ways: frozenset[Way], *, tickets: bool) -> None:
        self._ways = ways
        self._schemes: dict[str, Any] = {}
        if credential := CREDENTIALS.get(ways - {"proxy"}):
            meaning, form = credential
            self._schemes[BEARER] = {"type": "http", "scheme": "bearer", "bearerFormat": form, "description": meaning}
        if "keys" in ways:
            key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
            self._schemes[API_KEY] = key | {"description": "The same API key, in another header. Send one of them."}
        meaning = "A ticket of POST /tasks/{task_id}/tickets, for a client that sends no header."
        ticket = {"type": "apiKey", "in": "query", "name": TICKET, "description": meaning}
        self._tickets = {TICKET: ticket} if tickets else {}

    def complete(self, document: dict[str, Any], routes: Iterable[BaseRoute]) -> None:
        """Add to each call of the document that these routes do not leave open to all what it needs, and its 401."""
        if not self._ways:
            return
        if schemes := self._schemes | self._tickets:
            document["components"]["securitySchemes"] = schemes
        for path, method, opt in _calls(routes):
            call = document["paths"].get(path, {}).get(method)
            if call is not None and opt[NEEDS] != OPEN:
                call["responses"]["401"] = {"content": CONTENT}
                takes_tickets = opt.get(TAKES_TICKETS, False)
                if takes_tickets:  # as a scheme: beside another credential, the API refuses one
                    call["parameters"] = [each for each in call["parameters"] if each["name"] != TICKET]
                scopes = [opt[name] for name in (NEEDS, ALSO_NEEDS) if opt.get(name, ANY) != ANY]
                call |= self._needed(scopes, call, takes_tickets=takes_tickets)

    def of_function(self, call: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the call that starts the function of this name with what it needs."""
        return call | self._needed([TASKS, FUNCTIONS_PREFIX + name], call) if self._ways else call

    def _needed(self, scopes: list[str], call: dict[str, Any], *, takes_tickets: bool = False) -> dict[str, Any]:
        """Return the members of this call that say that it needs these scopes."""
        named = " and ".join(f"`{scope}`" for scope in scopes)
        noun = "scopes" if len(scopes) > 1 else "scope"
        sentence = f"The caller needs the {noun} {named}." if scopes else "The caller needs no scope."
        described = "\n\n".join(text for text in (call.get("description", ""), sentence) if text)
        security: list[dict[str, list[str]]] = [{scheme: scopes} for scheme in self._schemes]
        if takes_tickets:
            security += [{scheme: []} for scheme in self._tickets]
        if security and "proxy" in self._ways:
            security.append({})  # the proxy has named the caller
        return {"description": described} | ({"security": security} if security else {})


def _calls(routes: Iterable[BaseRoute]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Return the path and the method of each call, as the document has them, and its handler's `opt`."""
    for route in routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS":
                    yield route.path_format, method.lower(), handler.opt
