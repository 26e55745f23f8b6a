"""Tokens: what costs cryptography, what no text can be, and what the API must be told to take them."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr

from services.api.identity.authentication import Authentication
from services.api.identity.caller import owner_of
from services.api.identity.refusals import CredentialError
from services.api.identity.tickets import Tickets
from services.api.identity.token_issuer import Issuer
from services.api.identity.token_keys import KeySet
from services.api.identity.tokens import Tokens
from services.api.settings import Settings
from tests.support.identity_provider import AUDIENCE, ISSUER, TRUSTED, Signer, base64url, claims, public_jwk

SIGNER: Final = Signer("a")


class Fixed:
    """A source with one key."""

    algorithms = frozenset({"RS256", "ES256"})

    def __init__(self) -> None:
        self._keys = KeySet(b'{"keys": [%s]}' % json.dumps(SIGNER.jwk()).encode())
        self.find = self._keys.find

    def refusal(self, kid: str | None) -> CredentialError:
        """For keys that are not there."""
        return CredentialError("There is no such key.")


TOKENS: Final = Tokens(Fixed(), ISSUER, AUDIENCE)


def test_a_known_token_costs_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand requests with a token verify its signature once, and once more when the keys have changed."""
    verified: list[bytes] = []
    verify = RSAAlgorithm.verify

    def counted(self: RSAAlgorithm, msg: bytes, key: Any, sig: bytes) -> bool:
        verified.append(msg)
        return verify(self, msg, key, sig)

    monkeypatch.setattr(RSAAlgorithm, "verify", counted)
    authentication = Authentication(TOKENS.caller_of, Tickets([], 1, 1))
    token = SIGNER.token()
    callers = {authentication.identify(token) for _ in range(1_000)}
    assert [caller.owner for caller in callers] == [owner_of(ISSUER, "ada")]
    assert len(verified) == 1
    authentication.forget()
    assert authentication.identify(token) in callers
    assert len(verified) == 2


def test_until() -> None:
    """A caller is valid until half a minute after `exp`, for streams as for requests."""
    assert TOKENS.caller_of(SIGNER.token(exp=2_000_000_000), "").until == 2_000_000_030
    assert TOKENS.caller_of(SIGNER.token(exp=2_000_000_000.7), "").until == 2_000_000_030


def test_words_that_are_no_scopes() -> None:
    """They are left out, so a caller has scopes of this API only."""
    token = SIGNER.token(
        scope="openid tasks tasks:read functions: functions:a/b", scp=["admin", "functions:count x", ""]
    )
    assert TOKENS.caller_of(token, "").scopes == {"tasks", "admin"}


PARTS: Final = st.one_of(st.binary(max_size=40).map(base64url), st.text(max_size=20))


@given(st.one_of(st.text(max_size=200), st.lists(PARTS, max_size=5).map(".".join)))
def test_any_text(text: str) -> None:
    """It is no token: the refusal says so, and nothing else goes wrong."""
    with pytest.raises(CredentialError):
        TOKENS.caller_of(text, "")


# Values of any type, for members of a header and claims.
VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "scope", "scp", "jti"]), VALUES)
def test_any_value_of_a_claim(name: str, value: Any) -> None:
    """A signed token with it is refused, or has a caller with scopes of this API only."""
    try:
        caller = TOKENS.caller_of(SIGNER.of(claims() | {name: value}), "")
    except CredentialError:
        return
    assert re.fullmatch("[0-9a-f]{32}", caller.owner)
    assert caller.scopes <= {"tasks", "functions:*"}


@given(st.sampled_from(["kid", "typ", "cty", "crit", "b64", "alg", "jku", "jwk", "x5c"]), VALUES)
def test_any_value_in_a_header(name: str, value: Any) -> None:
    """A signed token with it is refused, or has its caller: the signature covers the header."""
    try:
        caller = TOKENS.caller_of(SIGNER.of(claims(), **{name: value}), "")
    except CredentialError:
        return
    assert caller.owner == owner_of(ISSUER, "ada")


@given(st.integers(0, 10_000), st.sampled_from("AQgw_-0"))
def test_a_character_that_is_changed(place: int, character: str) -> None:
    """The token is refused, wherever the character stands."""
    token = SIGNER.token(exp=2_000_000_000)
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    if changed != token:
        with pytest.raises(CredentialError):
            TOKENS.caller_of(changed, "")


SECRET: Final = "a secret of thirty-two bytes, at least"
URL: Final = "https://login.example/jwks.json"


def refusal(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    """The message of an API that does not start with these settings; empty, if it starts."""
    for name, value in ({"TAILRACE_AUTH": "jwt"} | TRUSTED | settings).items():
        monkeypatch.setenv(name, value)
    try:
        read = Settings.read()
        Issuer(read)
    except SystemExit as stopped:
        return str(stopped)
    assert SECRET not in repr(read) + str(read)
    return ""


MISSING: Final = [
    ({"TAILRACE_JWT_ISSUER": "", "TAILRACE_JWKS_URL": URL}, "TAILRACE_JWT_ISSUER is not set: with TAILRACE_AUTH=jwt"),
    ({"TAILRACE_JWT_AUDIENCE": "", "TAILRACE_JWKS_URL": URL}, "TAILRACE_JWT_AUDIENCE is not set"),
    ({}, "TAILRACE_JWKS_URL and TAILRACE_JWT_SECRET are not set: with TAILRACE_AUTH=jwt there should be one of them"),
    (
        {"TAILRACE_JWKS_URL": URL, "TAILRACE_JWT_SECRET": SECRET},
        "TAILRACE_JWKS_URL and TAILRACE_JWT_SECRET are both set",
    ),
    ({"TAILRACE_JWT_SECRET": SECRET[:31]}, "TAILRACE_JWT_SECRET is too short: it should have at least 32 bytes"),
    (
        {"TAILRACE_JWKS_URL": "http://login.example/jwks.json"},
        "it should begin with https://, or with http:// and a loop",
    ),
    ({"TAILRACE_JWKS_URL": "file:///etc/passwd"}, "it should begin with https://"),
    ({"TAILRACE_JWKS_URL": "login.example/jwks.json"}, "it should begin with https://"),
    ({"TAILRACE_JWKS_URL": "https://"}, "it should begin with https://"),
    ({"TAILRACE_JWKS_URL": "http://127.0.0.1.example/"}, "it should begin with https://"),
    ({"TAILRACE_JWKS_URL": "http://localhost.example/"}, "it should begin with https://"),
    ({"TAILRACE_JWKS_URL": "http://0.0.0.0/"}, "it should begin with https://"),
    ({"TAILRACE_JWKS_URL": "https://a:Canary7@login.example/"}, "it should have no user and no password"),
    ({"TAILRACE_JWKS_URL": "https://login.example:port/"}, "it should begin with https://"),
    ({"TAILRACE_JWKS_URL": URL}, ""),
    ({"TAILRACE_JWKS_URL": "http://127.0.0.1:8080/jwks.json"}, ""),
    ({"TAILRACE_JWKS_URL": "http://[::1]:8080/jwks.json"}, ""),
    ({"TAILRACE_JWKS_URL": "http://idp.localhost/jwks.json"}, ""),
    ({"TAILRACE_JWT_SECRET": SECRET}, ""),
]


@pytest.mark.parametrize(("settings", "words"), MISSING)
def test_settings(settings: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API starts only with what it needs for tokens. The message names the variable, and never shows a secret."""
    said = refusal(monkeypatch, **settings)
    assert words in said
    assert bool(words) == bool(said)
    assert SECRET[:31] not in said
    assert "Canary7" not in said


@pytest.mark.parametrize("of", ["PEM", "JWK"])
def test_a_secret_that_is_a_public_key(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every client knows it, and could sign with it."""
    pem = SIGNER.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    jwk = json.dumps(public_jwk("RS256", SIGNER.key))
    assert "should be a secret, not a key" in refusal(monkeypatch, TAILRACE_JWT_SECRET=pem if of == "PEM" else jwk)


def test_a_secret_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It need not stand in the environment. A file that is none, or no text, is named."""
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    assert refusal(monkeypatch, TAILRACE_JWT_SECRET_FILE=str(path)) == ""
    assert Settings.read().jwt_secret == SecretStr(SECRET)
    path.write_bytes(b"\xff" * 40)
    said = refusal(monkeypatch, TAILRACE_JWT_SECRET_FILE=str(path))
    assert said == f"TAILRACE_JWT_SECRET_FILE is '{path}': it should have text"
    assert "No such file" in refusal(monkeypatch, TAILRACE_JWT_SECRET_FILE=str(tmp_path / "none"))
    assert "are both set" in refusal(monkeypatch, TAILRACE_JWT_SECRET=SECRET)
