"""Keys of an identity provider: each one verifies by the algorithms of its own kind, and some verify nothing."""

import json
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from services.api.identity.refusals import CredentialError
from services.api.identity.token_keys import CURVES, PUBLIC, RSA, KeysError, KeySet
from tests.support.identity_provider import Signer, base64url, private_key, public_jwk

SIGNER: Final = Signer("a")


def set_of(*keys: Any) -> KeySet:
    """A set of these keys."""
    return KeySet(json.dumps({"keys": keys}).encode())


def algorithms_of(jwk: dict[str, Any]) -> set[str]:
    """The algorithms that this key is for."""
    keys = set_of(jwk)
    found = set()
    for algorithm in PUBLIC | {"HS256", "HS512", "none"}:
        try:
            found.add(algorithm if keys.find("a", algorithm) else "")
        except CredentialError:
            continue
    return found


KINDS: Final[list[tuple[str, frozenset[str]]]] = [
    ("RS256", RSA),
    ("ES256", CURVES["EC", "P-256"]),
    ("ES384", CURVES["EC", "P-384"]),
    ("ES512", CURVES["EC", "P-521"]),
    ("EdDSA", CURVES["OKP", "Ed25519"]),
]


@pytest.mark.parametrize(("algorithm", "expected"), KINDS)
def test_algorithms_of_a_kind(algorithm: str, expected: frozenset[str]) -> None:
    """A public key is never for a shared secret. Its `alg` narrows what it is for."""
    jwk = Signer("a", algorithm).jwk()
    assert algorithms_of(jwk) == expected
    assert algorithms_of(jwk | {"alg": algorithm, "use": "sig", "key_ops": ["verify"]}) == {algorithm}


def rsa_of(bits: int) -> dict[str, Any]:
    """An RSA key of this length. The modulus of a long one is no product of two primes, which takes long to find."""
    if bits <= 2_048:
        return dict(public_jwk("RS256", rsa.generate_private_key(65_537, bits), kid="a"))
    return {"kty": "RSA", "kid": "a", "e": "AQAB", "n": base64url((2 ** (bits - 1) + 1).to_bytes(bits // 8))}


IGNORED: Final[dict[str, Any]] = {
    "no object": "key",
    "a number": 7,
    "null": None,
    "no kind": {"kid": "a"},
    "another kind": SIGNER.jwk() | {"kty": "AKP"},
    "a symmetric key": {"kty": "oct", "kid": "a", "k": base64url(b"k" * 32)},
    "a symmetric key that says RS256": {"kty": "oct", "kid": "a", "k": base64url(b"k" * 32), "alg": "RS256"},
    "for encryption": SIGNER.jwk(use="enc"),
    "for other operations": SIGNER.jwk(key_ops=["encrypt"]),
    "for an algorithm of another kind": SIGNER.jwk(alg="ES256"),
    "for a shared secret": SIGNER.jwk(alg="HS256"),
    "for none": SIGNER.jwk(alg="none"),
    "of an unknown curve": public_jwk("ES256", ec.generate_private_key(ec.SECP256K1()), kid="a"),
    "not on its curve": Signer("a", "ES256").jwk() | {"x": base64url(b"\1" * 32)},
    "of another curve than it says": Signer("a", "ES256").jwk() | {"crv": "P-384"},
    "without its members": {"kty": "RSA", "kid": "a"},
    "members of other types": {"kty": "RSA", "kid": "a", "n": 7, "e": ["AQAB"]},
    "a number as its id": SIGNER.jwk() | {"kid": 7},
    "a long id": SIGNER.jwk() | {"kid": "k" * 257},
    "private": {**RSAAlgorithm.to_jwk(SIGNER.key, as_dict=True), "kid": "a", "key_ops": None},
    "short": rsa_of(1_024),
    "long": rsa_of(16_384),
}


@pytest.mark.parametrize("jwk", IGNORED.values(), ids=IGNORED)
def test_a_key_that_verifies_nothing(jwk: Any) -> None:
    """It is ignored beside others, and counted; a set of nothing else is none."""
    with pytest.raises(KeysError, match="none of its 1 keys"):
        set_of(jwk)
    keys = set_of(jwk, Signer("b", "ES256").jwk())
    assert (list(keys.keys), keys.ignored) == (["b"], 1)


def test_keys_with_one_id() -> None:
    """The algorithm chooses among keys of different kinds."""
    keys = set_of(SIGNER.jwk(), Signer("a", "ES256").jwk())
    rs256, es256 = keys.find("a", "RS256"), keys.find("a", "ES256")
    assert rs256
    assert es256
    assert rs256.algorithms == RSA
    assert es256.algorithms == {"ES256"}
    assert keys.find("b", "RS256") is None


def test_a_token_that_names_no_key() -> None:
    """The only key for its algorithm is its key. If there are two, it is refused."""
    one = set_of(public_jwk("RS256", SIGNER.key), Signer("b", "ES256").jwk())
    assert one.find(None, "RS256")
    assert one.find(None, "ES256")
    two = set_of(SIGNER.jwk(), public_jwk("RS256", private_key("RS256", 1), kid="b"))
    with pytest.raises(CredentialError, match="lacks `kid`"):
        two.find(None, "RS256")
    with pytest.raises(CredentialError, match="lacks `kid`"):
        two.find(None, "ES256")


def test_sets_that_differ() -> None:
    """The order of keys is no difference; another key with the same id is one."""
    a, b = SIGNER.jwk(), Signer("b", "ES256").jwk()
    assert set_of(a, b).keys == set_of(b, a).keys
    assert set_of(a, b).keys != set_of(public_jwk("RS256", private_key("RS256", 1), kid="a"), b).keys
