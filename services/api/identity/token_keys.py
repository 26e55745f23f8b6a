"""The keys that verify tokens. A key is for the algorithms of its own kind, whatever a token says of itself.

The keys of an identity provider are a JSON Web Key Set (https://www.rfc-editor.org/rfc/rfc7517#section-5).
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

import jwt
import msgspec

from services.api.identity.refusals import CredentialError

RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

# The algorithms of a key that is no RSA key, by its kind and its curve.
CURVES: Final = {
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}

PUBLIC: Final = RSA.union(*CURVES.values())
SHARED: Final = frozenset({"HS256"})

# Bits of RSA keys. A shorter one can be factored, and a longer one takes milliseconds for each token.
RSA_BITS: Final = range(2_048, 8_193)

# Keys of a set, and characters of a key's id, in a set or in a token.
MAX_KEYS: Final = 100
MAX_KID: Final = 256


class Key(NamedTuple):
    """A key, and the algorithms that it is for."""

    material: Any
    algorithms: frozenset[str]


class Source(Protocol):
    """Where the keys of tokens are from. `algorithms` are those of all keys that there may be."""

    algorithms: frozenset[str]

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of a token that names this one, or None if it is not known.

        Raises:
            CredentialError: no key that is known, or may become known, verifies such a token.
        """

    def refusal(self, kid: str | None) -> CredentialError:
        """Return why a token with a key that is not known is refused."""


class KeysError(Exception):
    """A document is no set of keys. The message says why."""


class JsonWebKey(msgspec.Struct, frozen=True):
    """The members of a key that say what it is and what it is for. One with `d` is a private key."""

    kty: str
    kid: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    alg: str | None = None
    crv: str | None = None
    d: Any = None


class KeySet:
    """The keys of a set that can verify tokens, by id; several may have one. `ignored` are how many others it has."""

    def __init__(self, document: bytes) -> None:
        """Read the document.

        Raises:
            KeysError: it is no set of keys, or no key of it can verify tokens.
        """
        keys: dict[str | None, list[Key]] = {}
        listed = _listed(document)
        for kid, key in _usable(listed):
            keys.setdefault(kid, []).append(key)
        self.keys: Final = keys
        self.ignored: Final = len(listed) - sum(map(len, keys.values()))
        if not keys:
            raise KeysError(f"none of its {len(listed)} keys can verify tokens")

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of this id; without an id, the only key that is for this algorithm. None: there is no such id.

        Raises:
            CredentialError: the key of this id is not for this algorithm; or there is no id, and not one such key.
        """
        known = [key for keys in self.keys.values() for key in keys] if kid is None else self.keys.get(kid)
        if known is None:
            return None
        fitting = [key for key in known if algorithm in key.algorithms]
        if len(fitting) == 1:
            return fitting[0]
        if kid is None:
            raise CredentialError("The token does not say by which key it is signed: it lacks `kid`.")
        raise CredentialError("The token is signed in another way than its key is for.")


def _listed(document: bytes) -> list[Any]:
    try:
        keys = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise KeysError("it is no JSON object") from None
    if not isinstance(keys, list):
        raise KeysError("it has no list `keys`")
    if len(keys) > MAX_KEYS:
        raise KeysError(f"it has more than {MAX_KEYS} keys")
    return keys


def _usable(listed: Iterable[Any]) -> Iterable[tuple[str | None, Key]]:
    for each in listed:
        try:
            about = msgspec.convert(each, JsonWebKey)
        except msgspec.ValidationError:
            continue
        algorithms = _algorithms(about)
        material = _material(each, next(iter(algorithms))) if algorithms else None
        if material is not None:
            yield about.kid, Key(material, algorithms)


def _algorithms(about: JsonWebKey) -> frozenset[str]:
    """Return the algorithms by which this key may verify tokens; none if it should not."""
    for_signatures = about.use in (None, "sig") and (about.key_ops is None or "verify" in about.key_ops)
    # A private key that is published is no secret any more.
    if not for_signatures or about.d is not None or len(about.kid or "") > MAX_KID:
        return frozenset()
    fitting = RSA if about.kty == "RSA" else CURVES.get((about.kty, about.crv or ""), frozenset())
    return fitting if about.alg is None else fitting & {about.alg}


def _material(each: dict[str, Any], algorithm: str) -> Any:
    try:
        material: Any = jwt.PyJWK(each, algorithm).key
    # Its members may be of any type.
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return None
    return None if algorithm in RSA and material.key_size not in RSA_BITS else material


class Secret:
    """A secret that the issuer of tokens and the API share."""

    algorithms = SHARED

    def __init__(self, secret: str) -> None:
        self._key: Final = Key(secret.encode(), SHARED)

    def find(self, _: str | None, __: str) -> Key:
        """Return the secret, whatever a token calls it."""
        return self._key

    def refusal(self, _: str | None) -> CredentialError:
        """Not called: there is one key, and it is known."""
        raise AssertionError
