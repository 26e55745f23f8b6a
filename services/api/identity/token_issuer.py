"""The issuer of tokens that the settings name. Each fault stops the process, and the message says what to set."""

import ipaddress
from typing import Final

import httpx
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from services.api.identity.jwks import Jwks
from services.api.identity.token_keys import Secret
from services.api.identity.tokens import Tokens
from services.api.settings import Settings

# Bytes of the shortest secret: as many as its digests have (https://www.rfc-editor.org/rfc/rfc7518#section-3.2).
MIN_SECRET_BYTES: Final = 32


class Issuer:
    """Tokens, and the provider's keys that verify them; None if a secret does."""

    def __init__(self, settings: Settings) -> None:
        """Take what the settings say.

        Raises:
            SystemExit: one of them is missing or wrong.
        """
        if not settings.jwt_issuer or not settings.jwt_audience:
            missing = "TAILRACE_JWT_AUDIENCE" if settings.jwt_issuer else "TAILRACE_JWT_ISSUER"
            what = "the `aud`" if settings.jwt_issuer else "the `iss`"
            raise SystemExit(f"{missing} is not set: with TAILRACE_AUTH=jwt it should be {what} of the tokens")
        secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""
        if bool(secret) == bool(settings.jwks_url):
            raise SystemExit(
                f"TAILRACE_JWKS_URL and TAILRACE_JWT_SECRET are {'both' if secret else 'not'} set: with "
                "TAILRACE_AUTH=jwt there should be one of them, the address of the identity provider's keys or a "
                "secret that it shares with the API"
            )
        self.keys = None if secret else Jwks(checked_url(settings.jwks_url or ""))
        self.tokens = Tokens(self.keys or Secret(checked_secret(secret)), settings.jwt_issuer, settings.jwt_audience)


def checked_secret(secret: str) -> str:
    """Return the secret.

    Raises:
        SystemExit: it is too short, or none. The message has no part of it.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise SystemExit(f"TAILRACE_JWT_SECRET is too short: it should have at least {MIN_SECRET_BYTES} bytes")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise SystemExit(
            "TAILRACE_JWT_SECRET is wrong: it should be a secret, not a key or a certificate. TAILRACE_JWKS_URL names "
            "the address of public keys"
        ) from None
    return secret


def checked_url(url: str) -> str:
    """Return the address.

    Raises:
        SystemExit: it is none, or another server could answer in the provider's place.
    """
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.userinfo:
        raise SystemExit("TAILRACE_JWKS_URL is wrong: it should have no user and no password")
    if not parts.host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.host))):
        raise SystemExit(
            f"TAILRACE_JWKS_URL is {url!r}: it should begin with https://, or with http:// and a loopback host, such "
            "as http://127.0.0.1:8080/jwks.json"
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
