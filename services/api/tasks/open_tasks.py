"""Quotas of open tasks, which are queued or run: of one owner, of all owners, and of those that wait at one limit.

The step that creates a task refuses it (create.lua), so no two requests take the same place.
"""

from typing import Final, NamedTuple

from services.api.http.quotas import Limits, OwnerQuotaError, Quota, QuotaError, SharedQuotaError

# Seconds until a task may have ended: they last longer than requests.
RETRY_AFTER_S: Final = 10


class OpenTasks(NamedTuple):
    """The quotas."""

    one_owner: Quota
    all_owners: Quota
    one_limit: Quota

    def of(self, limits: Limits) -> "OpenTasks":
        """Return the quotas of a caller with these limits."""
        return self._replace(one_owner=self.one_owner.or_own(limits.tasks, "tasks"))

    @property
    def arguments(self) -> list[int]:
        """The numbers, as the script takes them."""
        return [self.one_owner.most, self.all_owners.most, self.one_limit.most]

    def refusal(self, answer: bytes) -> QuotaError:
        """Return the error for an answer of the script: `owner`, `all` or `limit`."""
        if answer == b"owner":
            # With another of the owner's keys there may be more.
            detail = f"You have all {self.one_owner.most} open tasks that {self.one_owner.holder} may have"
            return OwnerQuotaError(
                self.one_owner, "too-many-tasks", "Too many tasks", detail, retry_after_s=RETRY_AFTER_S
            )
        if answer == b"all":
            detail = f"There are {self.all_owners.most} open tasks, as many as there may be"
            return SharedQuotaError(
                self.all_owners, "queue-full", "No room for another task", detail, retry_after_s=RETRY_AFTER_S
            )
        detail = (
            f"{self.one_limit.most} tasks wait at the limit of this function, or of this value of its concurrency_key, "
            "as many as may"
        )
        return OwnerQuotaError(
            self.one_limit, "too-many-waiting", "Too many waiting tasks", detail, retry_after_s=RETRY_AFTER_S
        )
