"""Quotas: how much one owner may have, and all owners together. An API key may have limits of its own."""

from typing import Annotated, Final, NamedTuple

import msgspec

# Seconds until other requests, or tasks, may have ended.
RETRY_AFTER_S: Final = 5


Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much an owner may have with one API key: requests per second, requests at once, streams and long-polls, open
    tasks. None: as much as the settings say.
    """

    requests: Count | None = None
    burst: Count | None = None
    streams: Count | None = None
    tasks: Count | None = None


# The limits of a caller that has none of its own.
NO_OWN: Final = Limits()


class Quota(NamedTuple):
    """How many there may be, and the environment variable that says so; of an API key's own, the place in its file."""

    most: int
    setting: str
    holder: str = "one owner"

    def or_own(self, most: int | None, name: str) -> "Quota":
        """Return the quota that counts for an API key whose own limit of this name is `most`; None: it has none."""
        return self if most is None else Quota(most, f"limits.{name}", "an owner with this API key")


class QuotaError(Exception):
    """A request goes beyond a quota. `kind`, `title` and `detail` are those of the problem that answers it."""

    status: int
    # Whether the same request succeeds soon, whatever the client does.
    passes: bool

    def __init__(
        self, quota: Quota, kind: str, title: str, detail: str, *, retry_after_s: float = RETRY_AFTER_S
    ) -> None:
        super().__init__(detail)
        self.quota: Final = quota
        self.kind: Final = kind
        self.title: Final = title
        self.detail: Final = f"{detail} ({quota.setting})."
        self.retry_after_s: Final = retry_after_s


class OwnerQuotaError(QuotaError):
    """429: an owner has all that one owner may have. It must end something itself."""

    status = 429
    passes = False


class OwnerRateError(OwnerQuotaError):
    """429: an owner asks too fast. It must only wait."""

    passes = True


class SharedQuotaError(QuotaError):
    """503: all owners together have all that there may be. Another process may have room."""

    status = 503
    passes = True
