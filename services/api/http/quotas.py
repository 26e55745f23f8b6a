"""Quotas: how much one owner may have, and all owners together."""

from typing import Final, NamedTuple

# Seconds until other requests, or tasks, may have ended.
RETRY_AFTER_S: Final = 5


class Quota(NamedTuple):
    """How many there may be, and the environment variable that says so."""

    most: int
    setting: str


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
