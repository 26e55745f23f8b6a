"""A caller: the owner of what it starts, and its scopes."""

import hashlib
import math
from typing import Final

import msgspec

from plugins.keys import ANONYMOUS
from services.api.http.quotas import NO_OWN, Limits

# Scopes. `functions:count` is that of the function `count`, `functions:*` that of all.
TASKS: Final = "tasks"
ADMIN: Final = "admin"
FUNCTIONS_PREFIX: Final = "functions:"
ALL_FUNCTIONS: Final = "functions:*"

# What a caller may do if nothing says otherwise: with its own tasks, and any function.
USUAL: Final = frozenset({TASKS, ALL_FUNCTIONS})


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The caller of a request. Its tasks are those of `owner`: a digest, or `ANONYMOUS`.

    Its credential is valid until `until` (s since the epoch), and may have limits of its own. `by` is the digest of
    that, empty without one. With a ticket it may read the task `task`, and has no others; `owner` is then that of no
    task.
    """

    owner: str
    scopes: frozenset[str]
    until: float = math.inf
    by: str = ""
    limits: Limits = NO_OWN
    task: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether it may have what is of all owners."""
        return ADMIN in self.scopes

    def has(self, scope: str) -> bool:
        """Return whether it has this scope."""
        return scope in self.scopes or (scope.startswith(FUNCTIONS_PREFIX) and ALL_FUNCTIONS in self.scopes)

    def may_start(self, function: str) -> bool:
        """Return whether it may start this function."""
        return self.has(FUNCTIONS_PREFIX + function)

    def may_see(self, function: str) -> bool:
        """Return whether it may know that there is this function: it may start it, or is an admin."""
        return self.is_admin or self.may_start(function)

    @property
    def bound_to(self) -> str | None:
        """The owner whose tasks alone it may read, cancel and purge; None, it may those of all owners. With a ticket it
        is bound to `task`, whose owner it does not know.

        Without authentication there is no admin: tasks of other owners stay theirs.
        """
        return None if self.task or (self.is_admin and self is not ANYONE) else self.owner


# Every caller of an API without authentication: it may do everything.
ANYONE: Final = Caller(owner=ANONYMOUS, scopes=frozenset({TASKS, ALL_FUNCTIONS, ADMIN}))

# A caller without a valid credential, where a call is open to all.
STRANGER: Final = Caller(owner="", scopes=frozenset())


def owner_of(issuer: str, subject: str) -> str:
    """Return the owner that this subject of this issuer is.

    A digest: names in Redis have it as a part, and a subject may be any text of any length, also one that is no
    Unicode. No issuer has a NUL, so no two pairs are the same text.
    """
    return hashlib.sha256(f"{issuer}\0{subject}".encode(errors="surrogatepass")).hexdigest()[:32]
