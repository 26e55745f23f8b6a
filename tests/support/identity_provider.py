"""An identity provider for tests: it signs tokens, and serves its public keys by HTTP, or fails to."""

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.types import JWKDict

ISSUER: Final = "https://login.example/tenant"
AUDIENCE: Final = "https://tailrace.example"

# How it answers.
WELL, SILENTLY, SLOWLY, ENDLESSLY, ELSEWHERE = "well", "silently", "slowly", "endlessly", "elsewhere"


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """A private key for this algorithm; another one for each number."""
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa.generate_private_key(65_537, 2_048)


def public_jwk(algorithm: str, key: Any, **members: Any) -> JWKDict:
    """The public half of this private key as a member of a JSON Web Key Set, with these further members."""
    of_algorithm: Any = jwt.get_algorithm_by_name(algorithm)
    return {**of_algorithm.to_jwk(key.public_key(), as_dict=True), **members}


def base64url(part: bytes) -> str:
    """The part of a token."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(header: bytes, claims: bytes, algorithm: str, key: Any) -> str:
    """A token of these bytes, signed by the algorithm, whatever the header says."""
    message = f"{base64url(header)}.{base64url(claims)}"
    of_algorithm: Any = jwt.get_algorithm_by_name(algorithm)
    return f"{message}.{base64url(of_algorithm.sign(message.encode(), key))}"


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of a caller that may do the usual; with these changed, and without those that are None."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 600, "iat": now, "scope": "tasks functions:*"}
    return {name: value for name, value in (whole | changed).items() if value is not None}


class Signer:
    """One signing key of the provider, by the id `kid`."""

    def __init__(self, kid: str, algorithm: str = "RS256", number: int = 0) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.key = private_key(algorithm, number)

    def jwk(self, **members: Any) -> JWKDict:
        """Its public half, with these further members."""
        return public_jwk(self.algorithm, self.key, kid=self.kid, **members)

    def token(self, **changed: Any) -> str:
        """A token with the usual claims, but for these."""
        return self.of(claims(**changed))

    def of(self, whole: Any, **header: Any) -> str:
        """A token with these claims, with these members of the header in the place of the usual ones."""
        members = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"} | header
        members = {name: value for name, value in members.items() if value is not None}
        return signed(json.dumps(members).encode(), json.dumps(whole).encode(), self.algorithm, self.key)


class Provider:
    """A server of keys. It has the `times` at which it was asked, by the monotonic clock."""

    def __init__(self, *signers: Signer) -> None:
        self.times: list[float] = []
        self.manner = WELL
        self.delay_s = 0.0  # before each answer
        self.status = 200
        self.document = b""
        self.publish(*(signer.jwk() for signer in signers))
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    @property
    def asked(self) -> int:
        """How often it was asked."""
        return len(self.times)

    def publish(self, *keys: Mapping[str, Any]) -> None:
        """Serve these keys from now on."""
        self.document = json.dumps({"keys": keys}).encode()

    def close(self) -> None:
        """Answer no more."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def settings(self) -> dict[str, str]:
        """Those of an API that trusts this provider."""
        return {"TAILRACE_AUTH": "jwt", "TAILRACE_JWKS_URL": self.url} | TRUSTED


# Whose tokens an API trusts, and for which audience.
TRUSTED: Final = {"TAILRACE_JWT_ISSUER": ISSUER, "TAILRACE_JWT_AUDIENCE": AUDIENCE}


@contextmanager
def provider_of(*signers: Signer) -> Iterator[Provider]:
    """A provider with the keys of these signers."""
    provider = Provider(*signers)
    try:
        yield provider
    finally:
        provider.close()


class _Server(ThreadingHTTPServer):
    provider: Provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are expected."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer in the manner of the provider."""
        provider = self.server.provider
        provider.times.append(time.monotonic())
        provider.closing.wait(provider.delay_s)
        manner, document = provider.manner, provider.document
        if manner == SILENTLY:
            provider.closing.wait()
            return
        self.send_response(302 if manner == ELSEWHERE else provider.status)
        if manner == ELSEWHERE:
            self.send_header("Location", f"{provider.url}?elsewhere")
        self.end_headers()
        if manner == SLOWLY:
            for byte in document:
                self.wfile.write(bytes([byte]))
                if provider.closing.wait(0.05):
                    return
        while manner == ENDLESSLY:
            self.wfile.write(b" " * 65_536)
        self.wfile.write(document)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
