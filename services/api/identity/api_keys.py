"""API keys: `trk_<id>_<secret>`. The API knows the digest of a secret, never the secret.

A fast digest is right: 256 random bits cannot be guessed.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from datetime import datetime
from typing import Annotated, Final

import msgspec

from services.api.http.quotas import NO_OWN, Limits
from services.api.identity.caller import USUAL, Caller, owner_of
from services.api.identity.refusals import CredentialError

PREFIX: Final = "trk_"

DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# Bytes of a secret, and the digits that they are written in.
SECRET_BYTES: Final = 32
SECRET_DIGITS: Final = 43
ID_DIGITS: Final = 10

KEY: Final = re.compile(rf"trk_([0-9A-Za-z]{{1,32}})_([0-9A-Za-z]{{{SECRET_DIGITS}}})", re.ASCII)

# The issuer of all keys, as a part of an owner.
ISSUER: Final = "tailrace:keys"

# Characters of an owner's longest name.
MAX_OWNER: Final = 200

# A scope, in a file or a token.
SCOPE: Final = r"(?:tasks|admin|functions:(?:\*|[A-Za-z0-9_.-]{1,200}))"

Owner = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_OWNER)]
Scope = Annotated[str, msgspec.Meta(pattern=rf"^{SCOPE}$")]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the file has of a key. `sha256` is the digest of its secret, in hexadecimal. Without `expires` it is valid
    until it is revoked. `limits` count in the place of the settings.
    """

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    owner: Owner
    scopes: tuple[Scope, ...] = tuple(sorted(USUAL))
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    created: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    limits: Limits = NO_OWN

    def is_expired(self) -> bool:
        """Return whether it has expired."""
        return self.expires is not None and self.expires.timestamp() <= time.time()

    def caller(self, by: str) -> Caller:
        """Return the caller that the key stands for. `by` is the digest of the whole key."""
        until = math.inf if self.expires is None else self.expires.timestamp()
        owner = owner_of(ISSUER, self.owner)
        return Caller(owner=owner, scopes=frozenset(self.scopes), until=until, by=by, limits=self.limits)


def new_key() -> tuple[str, str, str]:
    """Return a new key, its id and the digest of its secret."""
    key_id = _base62(secrets.randbits(ID_DIGITS * 6), ID_DIGITS)
    secret = _base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES)), SECRET_DIGITS)
    return f"{PREFIX}{key_id}_{secret}", key_id, digest_of(secret)


def digest_of(secret: str) -> str:
    """Return the digest by which the file knows a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def record_of(records: dict[str, Record], key: str) -> Record:
    """Return the record of this key.

    Raises:
        CredentialError: it is malformed, or none of these.
    """
    match = KEY.fullmatch(key)
    if match is None:
        raise CredentialError("The API key is malformed: a part of it may be missing.")
    key_id, secret = match.groups()
    record = records.get(key_id)
    # One text for both: a caller does not learn which ids there are.
    if record is None or not hmac.compare_digest(record.sha256, digest_of(secret)):
        raise CredentialError("There is no such API key: it may have been revoked.")
    return record


def _base62(number: int, digits: int) -> str:
    written = ""
    for _ in range(digits):
        number, digit = divmod(number, len(DIGITS))
        written = DIGITS[digit] + written
    return written
