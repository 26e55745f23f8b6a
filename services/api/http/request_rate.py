"""Requests per second of one owner in this process.

It is the generic cell rate algorithm: each owner has a time at which its next request is due if it keeps the pace. A
request may come earlier by as much time as a burst has. An owner whose requests are all due is as one that is new.
(https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm)
"""

import time
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from services.api.http.quotas import OwnerRateError, Quota

# In the `opt` of a handler: `refuse_excess` lets its requests pass. Probes must be answered. GET of a stream counts by
# itself, because an `EventSource` gives up for good at a 429.
PASSES: Final = "passes_rate"

# Owners that are remembered at least, before those that are as new are forgotten.
MIN_REMEMBERED: Final = 1_024


class RequestRate:
    """Counts requests: of one owner `quota.most` a second, and `burst` at once."""

    def __init__(self, quota: Quota, burst: int) -> None:
        self._quota = quota
        # Times are in nanoseconds: sums of whole numbers are exact.
        self._interval = 1_000_000_000 // quota.most
        self._burst = burst * self._interval
        self._due: dict[str, int] = {}  # when the next request of an owner is due
        self._forget_at = MIN_REMEMBERED

    def count(self, owner: str) -> None:
        """Count a request of this owner.

        Raises:
            OwnerRateError: it comes too early, and does not count.
        """
        now = time.monotonic_ns()
        due = max(now, self._due.get(owner, now)) + self._interval
        early = due - now - self._burst
        if early > 0:
            detail = f"You send this process more than {self._quota.most} requests a second, as many as one owner may"
            raise OwnerRateError(
                self._quota, "too-many-requests", "Too many requests", detail, retry_after_s=early / 1_000_000_000
            )
        self._due[owner] = due
        if len(self._due) > self._forget_at:
            self._due = {each: due for each, due in self._due.items() if due > now}
            self._forget_at = max(MIN_REMEMBERED, 2 * len(self._due))


def refuse_excess(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Runs before every handler, when the caller is known.

    Raises:
        OwnerRateError: the owner sends too many requests.
    """
    if not handler.opt.get(PASSES):
        rate: RequestRate = connection.app.state.request_rate
        rate.count(connection.user.owner)
