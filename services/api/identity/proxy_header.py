"""The identity header: in it a trusted proxy names the caller, which it has authenticated itself.

Anyone can write a header. So it counts only if the peer of the connection is a trusted proxy, which must set or remove
it in every request that it passes on.
"""

from typing import Any, Final

from litestar.connection import ASGIConnection

from services.api.http.peer import PEER
from services.api.identity.caller import USUAL, Caller, owner_of
from services.api.identity.refusals import CredentialError
from services.api.proxies import Proxies
from services.api.settings import Settings

# The issuer of all names, as a part of an owner.
ISSUER: Final = "tailrace:proxy"

# Characters of the longest name: those of a subject in OpenID Connect.
MAX_LENGTH: Final = 255


class ProxyHeader:
    """Believes what these proxies say in this header."""

    def __init__(self, proxies: Proxies, header: str) -> None:
        self._proxies = proxies
        self._header = header

    @classmethod
    def of(cls, settings: Settings) -> "ProxyHeader":
        """Return what the settings say.

        Raises:
            SystemExit: one is not set. The message names it.
        """
        if settings.trusted_proxies is None:
            raise _unset("TRUSTED_PROXIES", "list the proxies that may name callers, such as 10.0.0.7")
        if settings.identity_header is None:
            raise _unset("IDENTITY_HEADER", "name the header in which they do, such as X-Forwarded-User")
        return cls(settings.trusted_proxies, settings.identity_header)

    def caller_of(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Caller | None:
        """Return the caller that a trusted proxy names, None if none does.

        Raises:
            CredentialError: the proxy names several or none; or the request has a credential beside the name.
        """
        names = connection.headers.getall(self._header, [])
        scope: Any = connection.scope
        if not names or not self._proxies.trust(scope.get(PEER, "")):
            return None
        if len(names) > 1:
            raise CredentialError(
                "The identity header is there several times: the proxy must replace what clients send."
            )
        if "authorization" in connection.headers or "x-api-key" in connection.headers:
            raise CredentialError(
                "The request has several credentials: the proxy names its caller, and it has one of its own. The proxy "
                "must remove Authorization and X-API-Key where it names a caller."
            )
        name = names[0].strip(" \t")
        if not name:
            raise CredentialError("The identity header is empty: where the proxy knows no caller, it must remove it.")
        if len(name) > MAX_LENGTH:
            raise CredentialError(f"The identity header is longer than {MAX_LENGTH} characters.")
        return Caller(owner=owner_of(ISSUER, name), scopes=USUAL)


def _unset(name: str, purpose: str) -> SystemExit:
    return SystemExit(f"TAILRACE_{name} is not set: with TAILRACE_AUTH=proxy it should {purpose}")
