"""JSON Web Tokens of one issuer, for one audience (https://www.rfc-editor.org/rfc/rfc7519)."""

import base64
import json
import re
from typing import Annotated, Any, Final, NoReturn, TypeVar

import jwt
import msgspec

from services.api.identity.api_keys import SCOPE
from services.api.identity.caller import Caller, owner_of
from services.api.identity.refusals import CredentialError
from services.api.identity.token_keys import MAX_KID, Key, Source

# Seconds by which the clock of the issuer may differ from this one. A token is valid for that much longer.
LEEWAY_S: Final = 30

# Header, claims and signature.
TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*", re.ASCII)

# Kinds of tokens that prove a caller's identity, without `application/`. A token for a logout has the same claims.
KINDS: Final = ("jwt", "at+jwt")

REQUIRED: Final = ("exp", "iss", "aud", "sub")

# Seconds since the epoch, until the year 9999.
Time = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
Words = str | list[str]


class Header(msgspec.Struct, frozen=True):
    """What a token says about its signature. Addresses of keys and certificates in it are not looked at."""

    alg: str
    kid: Annotated[str, msgspec.Meta(max_length=MAX_KID)] | None = None
    typ: str | None = None
    cty: Any = None
    crit: Any = msgspec.UNSET
    b64: Any = msgspec.UNSET


class Claims(msgspec.Struct, frozen=True):
    """What a token says about its caller. Scopes are in `scope`, separated by spaces, or in `scp`."""

    iss: str
    sub: Annotated[str, msgspec.Meta(min_length=1)]
    aud: Words
    exp: Time
    nbf: Time | msgspec.UnsetType = msgspec.UNSET
    iat: Time | msgspec.UnsetType = msgspec.UNSET
    scope: Words = ""
    scp: Words = ""


class Tokens:
    """Verifies the tokens of an issuer for an audience, by the keys of a source."""

    def __init__(self, source: Source, issuer: str, audience: str) -> None:
        self._source = source
        self._issuer = issuer
        self._audience = audience

    def caller_of(self, token: str, by: str) -> Caller:
        """Return the caller that the token stands for. `by` is its digest.

        Raises:
            CredentialError: it is not valid.
        """
        header, claims = _parts(token)
        if header.alg not in self._source.algorithms:
            raise CredentialError("The token is not signed, or in a way that this API does not take.")
        key = self._source.find(header.kid, header.alg)
        self._verify(token, key)
        if key is None:
            # After the claims: the provider is not asked for the key of a token that would be refused anyway.
            raise self._source.refusal(header.kid)
        owner, until = owner_of(claims.iss, claims.sub), int(claims.exp) + LEEWAY_S
        return Caller(owner=owner, scopes=_scopes(claims), until=until, by=by)

    def _verify(self, token: str, key: Key | None) -> None:
        """Verify the signature and the claims; without a key, the claims."""
        try:
            jwt.decode(
                token,
                key.material if key else "",
                list(key.algorithms) if key else None,
                CHECKS | {"verify_signature": key is not None},
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
            )
        except jwt.ExpiredSignatureError:
            raise CredentialError("The token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise CredentialError(
                "The token is not valid yet, by its `nbf` or `iat` and the clock of the API."
            ) from None
        except jwt.InvalidIssuerError:
            raise CredentialError("The token is of another issuer (`iss`) than the one that this API trusts.") from None
        except jwt.InvalidAudienceError:
            raise CredentialError("The token is for another audience (`aud`) than this API.") from None
        except jwt.InvalidSignatureError:
            raise CredentialError("The signature of the token is not that of its key.") from None
        # Its text may have a part of the token.
        except jwt.PyJWTError:
            raise CredentialError("The token is malformed.") from None


# All that PyJWT can check, also if it checks no signature.
CHECKS: Final[Any] = {
    "require": list(REQUIRED),
    "enforce_minimum_key_length": True,
    **{f"verify_{claim}": True for claim in (*REQUIRED, "nbf", "iat")},
}


def _scopes(claims: Claims) -> frozenset[str]:
    """Return the scopes of this API among those of the token."""
    named = [
        word for words in (claims.scope, claims.scp) for word in (words.split() if isinstance(words, str) else words)
    ]
    return frozenset(word for word in named if re.fullmatch(SCOPE, word))


def _parts(token: str) -> tuple[Header, Claims]:
    """Return the header and the claims, of which nothing is verified.

    Raises:
        CredentialError: they are malformed, or say that the token is something else.
    """
    match = TOKEN.fullmatch(token)
    if match is None:
        raise CredentialError("A token has three parts, separated by dots, of the letters of base64url.")
    header = _part(match[1], "header", Header)
    if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise CredentialError(
            "The header of the token asks for an extension (`crit`, `b64`) that this API does not have."
        )
    kind = (header.typ or "jwt").lower().removeprefix("application/")
    if kind not in KINDS or header.cty is not None:
        raise CredentialError("The token is of another kind (`typ`, `cty`) than one that proves a caller's identity.")
    return header, _part(match[2], "payload", Claims)


Part = TypeVar("Part", Header, Claims)


def _part(encoded: str, name: str, kind: type[Part]) -> Part:
    try:
        text = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True).decode()
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        found_part = msgspec.convert(found, kind)
        # Lone surrogates, which JSON can spell, are no text that has a digest.
        json.dumps(found, ensure_ascii=False).encode()
    except msgspec.ValidationError as error:
        raise CredentialError(f"The token's {name} is wrong: {error}.") from None
    except (ValueError, RecursionError, OverflowError):
        raise CredentialError(f"The token's {name} is no JSON object whose names are unique.") from None
    return found_part


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_number(_: str) -> NoReturn:
    raise ValueError
