"""The places of a process: one for each open stream and each long-poll that waits, counted by owner.

A request has its place until its ASGI call is over. So a place is given back however the request ends: the client has
disconnected, the handler has failed, or the answer has no body.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from litestar.types import ASGIApp, Receive, Scope, Send

from services.api.http.quotas import NO_OWN, Limits, OwnerQuotaError, Quota, SharedQuotaError

# Where a request's scope has the function that gives its place back.
GIVE_BACK: Final = "tailrace.give_back"


class Places:
    """Counts the places that are taken. `all_owners` bounds them, `one_owner` those of each owner."""

    def __init__(self, all_owners: Quota, one_owner: Quota) -> None:
        self._all_owners = all_owners
        self._one_owner = one_owner
        self._taken: Counter[str] = Counter()

    def take(self, scope: Scope, owner: str, limits: Limits = NO_OWN) -> None:
        """Take a place for this request, unless it has one. `limits` are those of the caller.

        Raises:
            OwnerQuotaError: the owner has no place left.
            SharedQuotaError: the process has none.
        """
        request: Any = scope
        if GIVE_BACK in request:
            return
        quota = self._one_owner.or_own(limits.streams, "streams")
        if (taken := self._taken.get(owner, 0)) >= quota.most:
            detail = f"You have {taken} open streams and long-polls in this process"
            detail += f", and {quota.holder} may have {quota.most}"
            raise OwnerQuotaError(quota, "too-many-streams", "Too many streams", detail)
        if self._taken.total() >= (most := self._all_owners.most):
            detail = f"This process has {most} open streams and long-polls, as many as it may have"
            raise SharedQuotaError(self._all_owners, "streams-full", "No room for another stream", detail)
        self._taken[owner] += 1
        request[GIVE_BACK] = lambda: self._give_back(owner)

    def _give_back(self, owner: str) -> None:
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]


def given_back(app: ASGIApp) -> ASGIApp:
    """Return the application, whose requests give their places back when they are over."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            request: Any = scope
            give_back: Callable[[], None] | None = request.pop(GIVE_BACK, None)
            if give_back is not None:
                give_back()

    return respond
