"""Recovery's look at a limit: attempts that are over leave it, and the next ones are admitted."""

from typing import Final

from redis.asyncio import Redis

from plugins import entries, keys
from plugins.limits import Ticket
from services.api.settings import Settings
from services.api.tasks.contact import Contact
from services.api.tasks.limits import Limiter
from services.api.tasks.task import RawTask, fetch, task_of

# Tasks per round trip.
BATCH_SIZE: Final = 200


class LimitScan:
    """Looks at limits at which tickets wait."""

    def __init__(self, redis: Redis, limiter: Limiter, contact: Contact, settings: Settings) -> None:
        self._redis = redis
        self._limiter = limiter
        self._contact = contact
        self._lease_s = settings.lease_s
        self._unclaimed_s = settings.unclaimed_s

    async def scan(self, key: str, now: int) -> None:
        """Release the tickets of attempts that are over, admit the next ones, and schedule the next scan if any wait.

        The process that admitted a ticket may have died before it enqueued the task: the tasks of admitted tickets that
        have not started are looked at sooner.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or refuses.
        """
        holders = await self._limiter.holders(key)
        leases_at = now if self._contact.lasts(self._lease_s) else 0
        over: list[Ticket] = []
        for start in range(0, len(holders), BATCH_SIZE):
            batch = holders[start : start + BATCH_SIZE]
            raw_tasks = await fetch(self._redis, [ticket.task_id for ticket, _ in batch])
            over += [
                ticket for (ticket, _), raw in zip(batch, raw_tasks, strict=True) if is_over(ticket, raw, leases_at)
            ]
        looks = {
            ticket.task_id: keys.WAITING + next_start_check(admitted_at // 1000, now, self._unclaimed_s)
            for ticket, admitted_at in holders
            if admitted_at and ticket not in over
        }
        if looks:
            await self._redis.zadd(keys.OPEN, dict(looks), xx=True, lt=True)
        await self._limiter.scan(key, over)


def is_over(ticket: Ticket, raw: RawTask, leases_at: int) -> bool:
    """Return whether this attempt has stopped running, or never will start.

    Leases that end after `leases_at` (s, by the server's clock) are valid. If it is 0, all are.
    """
    try:
        task = task_of(ticket.task_id, raw)
    except ValueError:  # unreadable: no worker will run it, and it must not keep the others from being scanned
        return True
    if task is None:
        return True
    if task.status in entries.ENDS:
        return task.lease_until <= leases_at * 1000  # after a cancel its function may still clean up
    return task.attempt > ticket.attempt or (task.attempt == ticket.attempt and task.recorded_status == "queued")


def next_start_check(admitted_at: int, now: int, unclaimed_s: int) -> int:
    """Return when (s) to scan a task that was admitted at this time (s) and has not started: at growing intervals."""
    return admitted_at + max(unclaimed_s, 2 * (now - admitted_at))
