"""Answers to callers that are not known (401, 503), or may not do what they ask for (403). None repeats a credential.

(https://www.rfc-editor.org/rfc/rfc6750#section-3)
"""

from typing import Final

from litestar.plugins.problem_details import ProblemDetailsException

from services.api.http.problems import problem
from services.api.ways import Way

REALM: Final = 'Bearer realm="tailrace"'

# What a request without a credential should have, by the ways that there are beside a proxy.
REMEDIES: Final[dict[frozenset[Way], str]] = {
    frozenset({"keys"}): "Send an API key as `Authorization: Bearer …` or as `X-API-Key`.",
    frozenset({"jwt"}): "Send a token as `Authorization: Bearer …`.",
    frozenset(
        {"keys", "jwt"}
    ): "Send an API key or a token as `Authorization: Bearer …`, or an API key as `X-API-Key`.",
}


class CredentialError(Exception):
    """A credential is not valid. The message says why, in a sentence that has no part of it."""


class UnverifiableError(CredentialError):
    """A credential may be valid, but cannot be verified now. It can be in `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            "The keys of the identity provider are being fetched, or it does not answer, so the token cannot be "
            "verified yet. Keep the token, and ask again."
        )
        self.retry_after_s: Final = retry_after_s


def refused(error: CredentialError) -> ProblemDetailsException:
    """401: the credential of a request is not valid; 503: that cannot be told yet."""
    if not isinstance(error, UnverifiableError):
        return unauthenticated(str(error))
    return problem(
        503,
        "identity-unavailable",
        "Identity not verifiable yet",
        str(error),
        headers={"Retry-After": str(error.retry_after_s)},
    )


def unauthenticated(why: str) -> ProblemDetailsException:
    """401: the credential of a request is not valid, and why."""
    headers = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
    return problem(401, "invalid-credential", "Invalid credential", why, headers=headers)


def unidentified(ways: frozenset[Way]) -> ProblemDetailsException:
    """401: the request has no credential, and what would be one in these ways."""
    remedy = REMEDIES.get(ways - {"proxy"}, "")
    if "proxy" in ways:
        remedy += " Or ask" if remedy else "Ask"
        remedy += " by way of the proxy that names the callers of this API."
    return problem(401, "no-credential", "No credential", remedy, headers={"WWW-Authenticate": REALM})


def insufficient(scope: str) -> ProblemDetailsException:
    """403: the caller lacks this scope."""
    return problem(
        403,
        "insufficient-scope",
        "Insufficient scope",
        f"This needs the scope {scope}, which your credential does not have.",
        headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'},
        scope=scope,
    )
