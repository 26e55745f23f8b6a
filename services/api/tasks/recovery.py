"""Recovery: every task ends or continues, whichever process has died, and whatever the queue has lost.

Every few seconds, every API process scans `tasks:open` for tasks that are due. The index says which tasks to look at;
the log and the metadata say what state they are in. Any number of processes may do this at once, and while a worker
that seems dead still runs: the claim lets one delivery win, and the write rule one end. Recovery runs in the API and
not in the workers, because no author's code can block the API.

Tasks that wait for a worker are scanned apart from all others, and some thousand at a time. So no backlog delays the
end of a stream whose worker has died.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from plugins import enqueue, entries, keys, release, scripts
from plugins.limits import Ticket
from plugins.message import Message
from services.api import foreign
from services.api.redis_client import Call, pipelined, run_script, script_call
from services.api.settings import Settings
from services.api.tasks.contact import Contact
from services.api.tasks.ending import append_end, leave, record_end
from services.api.tasks.limit_scan import LimitScan
from services.api.tasks.limits import Announced, Limiter
from services.api.tasks.task import Task, fetch, task_of

RESCHEDULE: Final = scripts.read("reschedule.lua", __file__)

# Tasks per round trip.
BATCH_SIZE: Final = 200

# Tasks and limits of one scan of those that wait. The others are scanned next time: the longest due are the first.
MAX_WAITING: Final = 2_000

# Seconds before its metadata expires at which a task that no worker has claimed is ended. Later its client could not be
# told.
MARGIN_S: Final = 600

# Seconds until a task that cannot be read is scanned again.
UNREADABLE_S: Final = 3_600

logger = structlog.get_logger()


class Write(NamedTuple):
    """What recovery writes for a task, in the round trip of its batch."""

    task_id: str
    calls: list[Call]
    # For a task that may be put on the queue: the call that puts off its next look for a second only, because Redis was
    # full.
    if_full: Call | None = None
    acquires: str | None = None  # the limit that the first call acquires


class Recovery:
    """Requeues, fails or finishes tasks that no other process handles."""

    def __init__(self, redis: Redis, limiter: Limiter, contact: Contact, settings: Settings) -> None:
        self._redis = redis
        self._limiter = limiter
        self._limit_scan = LimitScan(redis, limiter, contact, settings)
        self._contact = contact
        self._every_s = settings.scan_s
        self._lease_s = settings.lease_s
        self._unclaimed_s = settings.unclaimed_s

    async def run(self) -> None:
        """Scan at intervals, for ever; not all processes at the same time. No kind of scan waits for the other."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.scan))
            group.create_task(self._repeat(self.scan_waiting))

    async def _repeat(self, scan: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))  # noqa: S311  # spreads load; keeps no secret
            try:
                await scan()
            except RedisError as error:
                logger.warning("recovery scan failed", error=str(error))

    async def scan(self) -> None:
        """Recover every task that is due and does not wait for a worker: its lease, its back-off or its end is over.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or refuses for a reason that lies not in a single task.
        """
        now = await self._contact.look()
        due: Any = await self._redis.zrange(keys.OPEN, 0, now, byscore=True)
        await self._recover(due, now)

    async def scan_waiting(self) -> None:
        """Recover tasks that wait for a worker, and limits: at most `MAX_WAITING`, the longest due.

        Raises:
            redis.exceptions.RedisError: as `scan`.
        """
        now, first = await self._contact.look(), keys.WAITING
        due: Any = await self._redis.zrange(keys.OPEN, first, first + now, byscore=True, offset=0, num=MAX_WAITING)
        await self._recover(due, now)

    async def _recover(self, due: list[bytes], now: int) -> None:
        members = [member.decode(errors="replace") for member in due]
        no_text = [given for given, member in zip(due, members, strict=True) if member.encode() != given]
        if no_text:  # none of this product's: no task and no limit that it could recover
            await self._redis.zrem(keys.OPEN, *no_text)
        tasks = (member for member in members if not member.startswith(keys.LIMIT_PREFIX))
        while batch := list(islice(tasks, BATCH_SIZE)):
            await self._recover_tasks(batch, now)
        for member in members:
            if member.startswith(keys.LIMIT_PREFIX):
                async with self._skipping(member, now):
                    await self._limit_scan.scan(member, now)

    async def _recover_tasks(self, task_ids: list[str], now: int) -> None:
        """Recover these tasks: one round trip reads them, and one writes for all of them that go on as they are."""
        tasks: list[Task] = []
        for task_id, raw in zip(task_ids, await fetch(self._redis, task_ids), strict=True):
            async with self._skipping(task_id, now):
                if (task := task_of(task_id, raw)) is not None:
                    tasks.append(task)
                else:
                    await self._redis.zrem(keys.OPEN, task_id)
        limits = await self._limiter.announced({task.limit_key for task in tasks if task.limit_key is not None})
        writes: list[Write] = []
        for task in tasks:
            async with self._skipping(task.task_id, now):
                if (write := await self._recover_task(task, now, limits)) is not None:
                    writes.append(write)
        admitted = await self._write(writes, now)
        if_full = {write.task_id: write.if_full for write in writes}
        await self._write([self._enqueues(message, if_full.get(message.task_id)) for message in admitted], now)

    async def _write(self, writes: list[Write], now: int) -> list[Message]:
        """Send these calls, in one round trip. Return the messages of the tickets that they admit."""
        if not writes:
            return []
        admitted: list[Message] = []
        answers = iter(await pipelined(self._redis, [call for write in writes for call in write.calls]))
        for write in writes:
            own = list(islice(answers, len(write.calls)))
            async with self._skipping(write.task_id, now):
                errors = [answer for answer in own if isinstance(answer, Exception)]
                if errors and write.if_full is not None:
                    await pipelined(self._redis, [write.if_full])
                for error in errors:
                    raise error
                if write.acquires is not None:
                    admitted += self._limiter.admitted(write.acquires, own[0])
        return admitted

    @asynccontextmanager
    async def _skipping(self, member: str, now: int) -> AsyncIterator[None]:
        """Skip a task, or a limit, that cannot be recovered now, so that it does not block those behind it.

        Raises:
            Exception: the error lies not in this task.
        """
        try:
            yield
        except (ValueError, RedisError) as error:
            if isinstance(error.__cause__ or error, OutOfMemoryError):
                # It is scanned again soon: there may be room, and ends need none.
                logger.warning("task not recovered", task_id=member, reason="redis is full")
            elif isinstance(error, ValueError) or foreign.is_wrong_type(error):
                logger.error("task not readable", task_id=member, error=str(error))
                await self._redis.zadd(keys.OPEN, {member: now + UNREADABLE_S}, xx=True)
            else:
                raise

    async def _recover_task(self, task: Task, now: int, limits: Announced) -> Write | None:
        """Recover a task that is due. Return what is to be written in the round trip of its batch, if anything."""
        if task.end and task.recorded_status not in entries.ENDS:
            await record_end(self._redis, self._limiter, task)
        elif task.lease_until > now * 1000:  # it runs, or waits for its next attempt, or cleans up after a cancel
            return Write(task.task_id, [self._next_look(task, -(-task.lease_until // 1000))])
        elif task.recorded_status in entries.ENDS:
            if not task.lease_until or self._contact.lasts(self._lease_s):  # else its function may still clean up
                await leave(self._redis, self._limiter, task)
        elif task.recorded_status == "queued":
            return await self._recover_unclaimed(task, now, limits)
        elif self._contact.lasts(self._lease_s):
            return await self._recover_abandoned(task, now, limits)
        # Otherwise Redis, or this process, was away or paused: living workers could not renew. They get the time of one
        # lease; the task stays due.
        return None

    async def _recover_unclaimed(self, task: Task, now: int, limits: Announced) -> Write | None:
        """Queue a task that no worker has claimed: its back-off is over, or the queue is long, or has lost it."""
        queued = max(task.queued_at, task.lease_until) // 1000
        last_chance = task.queued_at // 1000 + keys.TASK_TTL_S - MARGIN_S
        if now >= last_chance:
            held = "its function was paused, or has limits that held it back, or other tasks of yours took your slots"
            await self._fail(
                task, "not_started", f"no worker has taken the task in a day: none has the function, or {held}"
            )
            return None
        return self._requeue(task, now, min(now + max(now - queued, self._unclaimed_s), last_chance), limits)

    async def _recover_abandoned(self, task: Task, now: int, limits: Announced) -> Write | None:
        """Release or fail a task whose worker has not renewed the lease."""
        if task.attempt >= task.attempts:
            await self._fail(task, "worker_lost", "the worker that ran the task is gone", worker_lost=True)
        elif await run_script(self._redis, release.SCRIPT, **release.arguments(task.task_id, None, 0)):
            logger.warning("lease expired, task released", task_id=task.task_id, attempt=task.attempt)
            return self._requeue(task, now, now + self._unclaimed_s, limits)
        return None

    def _requeue(self, task: Task, now: int, next_look: int, limits: Announced) -> Write:
        look, soon = (self._next_look(task, time, keys.WAITING) for time in (next_look, now + 1))
        if task.limit_key is None:
            message = Message(task.task_id, task.function, owner=task.owner)
            return Write(task.task_id, [script_call(enqueue.SCRIPT, **enqueue.arguments(message)), look], soon)
        ticket = Ticket(task.task_id, task.attempt + 1)
        acquire = self._limiter.acquire_call(task.limit_key, limits, ticket, task.created_at)
        return Write(task.task_id, [acquire, look], soon, task.limit_key)

    def _enqueues(self, message: Message, if_full: Call | None) -> Write:
        return Write(message.task_id, [script_call(enqueue.SCRIPT, **enqueue.arguments(message))], if_full)

    async def _fail(self, task: Task, code: str, message: str, *, worker_lost: bool = False) -> None:
        # If the log has grown since, or the lease was renewed, its writer is alive: the next scan decides.
        data = {"code": code, "message": message}
        if await append_end(self._redis, self._limiter, task, "failed", data, worker_lost=worker_lost):
            logger.warning("task ended by recovery", task_id=task.task_id, code=code)

    def _next_look(self, task: Task, time: int, above: int = 0) -> Call:
        """Return the call that schedules the next look at this task, and keeps its log, of earlier attempts, until then
        and an hour longer. `above` is `keys.WAITING` for a task that waits for a worker.

        If a worker has claimed it since it was read, the look is at the end of its lease or back-off at the latest.
        """
        names = [keys.OPEN, keys.metadata(task.task_id), keys.log(task.task_id)]
        return script_call(RESCHEDULE, names, [task.task_id, time, keys.CHUNK_TTL_S, task.attempt, above])
