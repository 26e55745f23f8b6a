"""The credential of a request: at most one, in a header; or a ticket, in the query."""

from typing import Any, Final
from urllib.parse import parse_qsl

from litestar.connection import ASGIConnection

from services.api.http.declared import spelling
from services.api.identity.refusals import CredentialError

# Characters of the longest credential. A longer one is not looked at.
MAX_LENGTH: Final = 8_192

SCHEME: Final = "bearer"

# The parameter that has a ticket.
TICKET: Final = "ticket"


def credential_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """Return the API key or the token of this request, None if it has none.

    Raises:
        CredentialError: there are several, or it is malformed.
    """
    bearers = connection.headers.getall("authorization", [])
    keys = connection.headers.getall("x-api-key", [])
    if len(bearers) + len(keys) > 1:
        raise CredentialError("The request has several credentials. Send one, as Authorization or as X-API-Key.")
    credential = keys[0] if keys else _bearer(bearers[0]) if bearers else None
    if credential is None:
        return None
    credential = credential.strip(" \t")
    if not credential:
        raise CredentialError("The credential is empty.")
    if len(credential) > MAX_LENGTH:
        raise CredentialError(f"The credential is longer than {MAX_LENGTH} characters.")
    if not (credential.isascii() and credential.isprintable()) or " " in credential:
        raise CredentialError("The credential has characters that no API key and no token has.")
    return credential


def ticket_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """Return the ticket of this request, None if it has none.

    Raises:
        CredentialError: there are several, or there is a credential, too.
    """
    query: bytes = connection.scope["query_string"]
    if not query:
        return None
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    tickets = [value for name, value in parameters if spelling(name) == TICKET]
    if len(tickets) > 1:
        raise CredentialError("The request has several tickets. Send one.")
    if tickets and ("authorization" in connection.headers or "x-api-key" in connection.headers):
        raise CredentialError("The request has several credentials. Send the ticket, or the header.")
    return tickets[0] if tickets else None


def _bearer(header: str) -> str:
    scheme, _, credential = header.strip(" \t").partition(" ")
    if scheme.lower() != SCHEME:
        raise CredentialError("The header Authorization must be of the scheme Bearer: `Authorization: Bearer …`.")
    return credential
