"""Finds the caller of each request by its credential: in memory, if the credential is known."""

import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from services.api.identity.caller import ANYONE, STRANGER, Caller
from services.api.identity.credentials import credential_of, ticket_of
from services.api.identity.proxy_header import ProxyHeader
from services.api.identity.refusals import CredentialError, UnverifiableError, insufficient, refused, unidentified
from services.api.identity.tickets import Tickets
from services.api.ways import Way

# In the `opt` of a handler: the scope without which its calls are refused; `OPEN`, they are for all, and know their
# caller if it has a credential that is valid; `ANY`, each caller that is known may send them.
NEEDS: Final = "needs_scope"
OPEN: Final = "open"
ANY: Final = "any"

# The same for a handler that takes a ticket in the place of a credential.
TAKES_TICKETS: Final = "takes_tickets"

# The same for a scope that depends on the request: the handler itself looks at it. This is for the OpenAPI document.
ALSO_NEEDS: Final = "also_needs_scope"

# Callers that are remembered. A credential that is known costs no verification.
MAX_REMEMBERED: Final = 20_000

# Returns the caller of a credential. It raises a `CredentialError` if there is none.
Verify = Callable[[str, str], Caller]


class Authentication:
    """Knows callers by their credentials. `verify` finds the caller of one that is not known; None: all are the same,
    and may do everything. Then a ticket is not needed, and not looked at. `proxy_header` finds the caller that a proxy
    names. `ways` are all that there are.
    """

    def __init__(
        self,
        verify: Verify | None,
        tickets: Tickets,
        proxy_header: ProxyHeader | None = None,
        ways: frozenset[Way] = frozenset(),
    ) -> None:
        self.ways: Final = ways
        self._verify = verify
        self._tickets = tickets
        self._proxy_header = proxy_header
        self._known: dict[str, Caller] = {}  # by the digest of a credential, in the order of their last requests

    def forget(self) -> None:
        """Verify every credential anew: what is valid has changed."""
        self._known.clear()

    def caller_of(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> Caller | None:
        """Return the caller that sent this request to this handler, None if it has no credential, and no proxy names
        one. A ticket counts before that name: a proxy adds the name to every request.

        Raises:
            CredentialError: its credential is not valid.
        """
        if self._verify is None:
            return ANYONE
        ticket = ticket_of(connection)
        if ticket is not None:
            if not handler.opt.get(TAKES_TICKETS):
                raise CredentialError("A ticket opens the stream and the pages of its task, by GET, and nothing else.")
            return self._tickets.holder(ticket, connection.path_params["task_id"])
        named = None if self._proxy_header is None else self._proxy_header.caller_of(connection)
        if named is not None:
            return named
        credential = credential_of(connection)
        return None if credential is None else self.identify(credential)

    def holds(self, caller: Caller, credential: str | None) -> bool:
        """Return whether a caller has all that it had when it sent this credential: that is valid, for the same owner
        and the same scopes. Without one, by a ticket, it has until its time is over; and so it has with a token that
        cannot be verified now.
        """
        if credential is None or self._verify is None:
            return caller.until > time.time()
        try:
            now = self.identify(credential)
        except UnverifiableError:
            return caller.until > time.time()
        except CredentialError:
            return False
        return (now.owner, now.scopes) == (caller.owner, caller.scopes)

    def identify(self, credential: str) -> Caller:
        """Return the caller of this credential.

        Raises:
            CredentialError: it is not valid.
        """
        assert self._verify is not None
        digest = hashlib.sha256(credential.encode()).hexdigest()
        caller = self._known.pop(digest, None) or self._verify(credential, digest)
        if caller.until <= time.time():
            raise CredentialError("The credential has expired.")
        self._known[digest] = caller
        if len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        return caller


def identify_caller(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Runs before every handler, and before all other checks: they find the caller as the connection's user.

    A handler that does not say what it needs takes no call.

    Raises:
        ProblemDetailsException: 401, the caller is not known; 403, it lacks the scope that the handler needs; 503, its
            token cannot be verified yet.
    """
    authentication: Authentication = connection.app.state.authentication
    needs = handler.opt.get(NEEDS)
    if connection.scope["method"] == "OPTIONS":  # type: ignore[typeddict-item]  # a handler of HTTP
        needs = OPEN
    scope: Any = connection.scope
    try:
        caller = authentication.caller_of(connection, handler)
    except CredentialError as error:
        if needs != OPEN:
            raise refused(error) from None
        caller = None
    if caller is None and needs != OPEN:
        raise unidentified(authentication.ways)
    scope["user"] = caller or STRANGER
    if needs not in (OPEN, ANY) and not (caller and needs and caller.has(needs)):
        raise insufficient(str(needs))


def caller(request: Request[Any, Any, Any]) -> Caller:
    """Return the caller of a request, for handlers."""
    user: Caller = request.user
    return user
