"""Answers to callers that are not known (401, 503), or may not do what they ask for (403). None repeats a credential.

(https://www.rfc-editor.org/rfc/rfc6750#section-3)
"""

from typing import Final

from litestar.plugins.problem_details import ProblemDetailsException

from services.api.http.problems import problem

REALM: Final = 'Bearer realm="tailrace"'


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


def unauthenticated(why: str = "") -> ProblemDetailsException:
    """401: the request has no credential; or one that is not valid, and `why`."""
    challenge = f'{REALM}, error="invalid_token"' if why else REALM
    if why:
        kind, title = "invalid-credential", "Invalid credential"
    else:
        kind, title = "no-credential", "No credential"
        why = "Send an API key or a token as `Authorization: Bearer …`, or an API key as `X-API-Key`."
    return problem(401, kind, title, why, headers={"WWW-Authenticate": challenge})


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
