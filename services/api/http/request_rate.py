"""Requests per second of one owner in this process.

It is the generic cell rate algorithm: each owner has a time at which its next request is due if it keeps the pace. A
request may come earlier by as much time as a burst has. An owner whose requests are all due is as one that is new.
(https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm)
"""

import time
from typing import Any, Final, NamedTuple

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from services.api.http.quotas import NO_OWN, Limits, OwnerRateError, Quota

# In the `opt` of a handler: `refuse_excess` lets its requests pass. Probes must be answered. GET of a stream counts by
# itself, because an `EventSource` gives up for good at a 429.
PASSES: Final = "passes_rate"

# Owners that are remembered at least, before those that are as new are forgotten.
MIN_REMEMBERED: Final = 1_024

# Paces of one owner that are remembered: those of the keys that it has used last. An owner with more keys of different
# limits may send another burst with one that it has not used for long.
MAX_PACES: Final = 16


class Pace(NamedTuple):
    """How far apart requests come, and how much earlier than it is due one may come. In nanoseconds: sums of whole
    numbers are exact.
    """

    interval: int
    early: int


class RequestRate:
    """Counts requests: of one owner `quota.most` a second, and `burst` at once. A key with other limits is judged by
    those, and all that its owner sends counts there, too.
    """

    def __init__(self, quota: Quota, burst: int) -> None:
        self._quota = quota
        self._burst = burst
        self._usual = self._pace(NO_OWN)
        # When the next request of an owner is due, at each pace of its keys. That of its last request is the last.
        self._due: dict[str, dict[Pace, int]] = {}
        self._forget_at = MIN_REMEMBERED

    def count(self, owner: str, limits: Limits = NO_OWN) -> None:
        """Count a request of this owner. `limits` are those of the caller.

        Raises:
            OwnerRateError: it comes too early, and does not count.
        """
        pace = self._usual if limits is NO_OWN else self._pace(limits)
        now = time.monotonic_ns()
        dues = self._due.get(owner)
        if dues is None:
            dues = self._remember(owner, now)
        due = max(now, dues.get(pace, now)) + pace.interval
        if (early := due - now - pace.early) > 0:
            raise self._refusal(limits, early / 1_000_000_000)
        if len(dues) > 1 or pace not in dues:
            _count_for_others(dues, pace, now)
        dues[pace] = due

    def _remember(self, owner: str, now: int) -> dict[Pace, int]:
        """Return the paces of a new owner: none yet. Forget owners that are as new."""
        if len(self._due) >= self._forget_at:
            self._due = {other: dues for other, dues in self._due.items() if any(due > now for due in dues.values())}
            self._forget_at = max(MIN_REMEMBERED, 2 * len(self._due))
        dues = self._due[owner] = {}
        return dues

    def _pace(self, limits: Limits) -> Pace:
        """Return the pace that these limits allow. A burst that they do not name is in proportion: with that of the
        settings, a slow key might send as many at once as a fast one.
        """
        most = limits.requests or self._quota.most
        burst = limits.burst or max(1, self._burst * most // self._quota.most)
        interval = 1_000_000_000 // most
        return Pace(interval, burst * interval)

    def _refusal(self, limits: Limits, retry_after_s: float) -> OwnerRateError:
        quota, per = self._quota.or_own(limits.requests, "requests"), "a second"
        if limits.burst and not limits.requests:
            quota, per = self._quota.or_own(limits.burst, "burst"), "at once"
        detail = f"You send this process more than {quota.most} requests {per}, as many as {quota.holder} may"
        return OwnerRateError(quota, "too-many-requests", "Too many requests", detail, retry_after_s=retry_after_s)


def _count_for_others(dues: dict[Pace, int], pace: Pace, now: int) -> None:
    """Count a request of this pace for the other paces of its owner, and make it the last of them."""
    dues.pop(pace, None)
    if len(dues) >= MAX_PACES:
        del dues[next(iter(dues))]
    # Where other keys send more than a pace allows, it is as if its own had sent as much as it allows.
    for other, due in dues.items():
        dues[other] = min(max(now, due) + other.interval, now + other.early)


def refuse_excess(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Runs for every request that has a handler, when its caller is known. OPTIONS passes: browsers send it without a
    credential, so the pages of all owners would share one rate.

    Raises:
        OwnerRateError: the owner sends too many requests.
    """
    scope: Any = connection.scope
    if not handler.opt.get(PASSES) and scope["method"] != "OPTIONS":
        rate: RequestRate = connection.app.state.request_rate
        rate.count(connection.user.owner, connection.user.limits)
