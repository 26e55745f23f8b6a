"""Recovery: every task ends or continues, whichever process has died. It does not depend on the queue's guarantees.

Every few seconds, every API process scans the tasks that are due in `tasks:open`. The index says which tasks to scan;
the log and the metadata say what state they are in. Any number of processes may do this at once, and while a worker
that seems dead still runs: the claim lets one delivery win, and the write rule one end. Recovery runs in the API and
not in the workers, because no author's code can block the API.
"""

import asyncio
import itertools
import random
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from plugins import entries, keys, release, scripts
from plugins.limits import Ticket
from plugins.message import Message
from services.api import foreign
from services.api.redis_client import run_script
from services.api.settings import Settings
from services.api.tasks.contact import Contact
from services.api.tasks.ending import append_end, leave, record_end
from services.api.tasks.limits import Limiter
from services.api.tasks.queue import QueueError, enqueue
from services.api.tasks.task import RawTask, Task, fetch, read, task_of

RESCHEDULE: Final = scripts.read("reschedule.lua", __file__)

# Tasks per read of the index.
BATCH_SIZE: Final = 200

# Seconds before its metadata expires at which a task that no worker has claimed is ended. Later its client could not be
# told.
MARGIN_S: Final = 600

# Seconds until a task that cannot be read is scanned again.
UNREADABLE_S: Final = 3_600

logger = structlog.get_logger()


class Recovery:
    """Requeues, fails or finishes tasks that no other process handles."""

    def __init__(self, redis: Redis, limiter: Limiter, contact: Contact, settings: Settings) -> None:
        self._redis = redis
        self._limiter = limiter
        self._contact = contact
        self._every_s = settings.scan_s
        self._lease_s = settings.lease_s
        self._unclaimed_s = settings.unclaimed_s

    async def run(self) -> None:
        """Scan at intervals, for ever; not all processes at the same time."""
        while True:
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))  # noqa: S311  # spreads load; keeps no secret
            try:
                await self.scan()
            except RedisError as error:
                logger.warning("recovery scan failed", error=str(error))

    async def scan(self) -> None:
        """Recover every task and every limit that is due, once.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or refuses for a reason that lies not in a single task.
        """
        seconds = await self._contact.look()
        for start in itertools.count(0, BATCH_SIZE):
            due: Any = await self._redis.zrange(keys.OPEN, 0, seconds, byscore=True, offset=start, num=BATCH_SIZE)
            for member in due:
                is_limit = member.startswith(keys.LIMIT_PREFIX.encode())
                recover = self._recover_limit if is_limit else self._recover_task
                try:
                    await recover(member.decode(), seconds)
                except (ValueError, RedisError) as error:
                    await self._defer(member.decode(), seconds, error)
            if len(due) < BATCH_SIZE:
                return

    async def _defer(self, member: str, now: int, error: Exception) -> None:
        """Skip a task that cannot be recovered now, so that it does not block those behind it.

        Raises:
            Exception: the error lies not in this task.
        """
        if isinstance(error.__cause__ or error, OutOfMemoryError):
            # It stays due: there may be room soon, and ends need none.
            logger.warning("task not recovered", task_id=member, reason="redis is full")
        elif isinstance(error, ValueError) or foreign.is_wrong_type(error):
            logger.error("task not readable", task_id=member, error=str(error))
            await self._redis.zadd(keys.OPEN, {member: now + UNREADABLE_S}, xx=True)
        else:
            raise error

    async def _recover_task(self, task_id: str, now: int) -> None:
        task = await read(self._redis, task_id)
        if task is None:
            await self._redis.zrem(keys.OPEN, task_id)
        elif task.end and task.recorded_status not in entries.ENDS:
            await record_end(self._redis, self._limiter, task)
        elif task.lease_until > now * 1000:  # it runs, or waits for its next attempt, or cleans up after a cancel
            await self._schedule_next(task, -(-task.lease_until // 1000))
        elif task.recorded_status in entries.ENDS:
            if not task.lease_until or self._contact.lasts(self._lease_s):  # else its function may still clean up
                await leave(self._redis, self._limiter, task)
        elif task.recorded_status == "queued":
            await self._recover_unclaimed(task, now)
        elif self._contact.lasts(self._lease_s):
            await self._recover_abandoned(task, now)
        # Otherwise Redis, or this process, was away or paused: living workers could not renew. They get the time of one
        # lease; the task stays due.

    async def _recover_unclaimed(self, task: Task, now: int) -> None:
        """Queue a task again that no worker has claimed: its back-off is over, or the queue is long, or has lost it."""
        queued = max(task.queued_at, task.lease_until) // 1000
        last_chance = task.queued_at // 1000 + keys.TASK_TTL_S - MARGIN_S
        if now >= last_chance:
            held = "its function was paused, or has limits that held it back"
            await self._fail(
                task, "not_started", f"no worker has taken the task in a day: none has the function, or {held}"
            )
            return
        # A second message does no harm: the claim drops it.
        await self._requeue(task, now, min(now + max(now - queued, self._unclaimed_s), last_chance))

    async def _recover_abandoned(self, task: Task, now: int) -> None:
        """Release or fail a task whose worker has not renewed the lease."""
        if task.attempt >= task.attempts:
            await self._fail(task, "worker_lost", "the worker that ran the task is gone", worker_lost=True)
        elif await run_script(self._redis, release.SCRIPT, **release.arguments(task.task_id, None, 0)):
            logger.warning("lease expired, task released", task_id=task.task_id, attempt=task.attempt)
            await self._requeue(task, now, now + self._unclaimed_s)

    async def _requeue(self, task: Task, now: int, next_scan: int) -> None:
        await self._schedule_next(task, next_scan)
        try:
            if task.limit_key is None:
                await enqueue(self._redis, [Message(task.task_id, task.function)])
            else:
                await self._limiter.acquire(task.limit_key, Ticket(task.task_id, task.attempt + 1), task.created_at)
        except QueueError:
            await self._schedule_next(task, now)
            raise

    async def _recover_limit(self, key: str, now: int) -> None:
        """Release the tickets of attempts that are over, admit the next ones, and schedule the next scan if any wait.

        The process that admitted a ticket may have died before it enqueued the task: the tasks of admitted tickets that
        have not started are scanned sooner.
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
        scans = {
            ticket.task_id: next_start_check(admitted_at // 1000, now, self._unclaimed_s)
            for ticket, admitted_at in holders
            if admitted_at and ticket not in over
        }
        if scans:
            await self._redis.zadd(keys.OPEN, dict(scans), xx=True, lt=True)
        await self._limiter.scan(key, over)

    async def _fail(self, task: Task, code: str, message: str, *, worker_lost: bool = False) -> None:
        # If the log has grown since, or the lease was renewed, its writer is alive: the next scan decides.
        data = {"code": code, "message": message}
        if await append_end(self._redis, self._limiter, task, "failed", data, worker_lost=worker_lost):
            logger.warning("task ended by recovery", task_id=task.task_id, code=code)

    async def _schedule_next(self, task: Task, next_scan: int) -> None:
        """Schedule the next scan of this task, and keep its log, of earlier attempts, until then and an hour longer.

        If a worker has claimed it since it was read, the scan is at the end of its lease or back-off at the latest.
        """
        names = [keys.OPEN, keys.metadata(task.task_id), keys.log(task.task_id)]
        await run_script(self._redis, RESCHEDULE, names, [task.task_id, next_scan, keys.CHUNK_TTL_S, task.attempt])


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
