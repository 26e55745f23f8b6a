"""Recovery: whatever died, every task ends or goes on. The safety net does not depend on what the queue guarantees.

Every API process looks, every few seconds, at the tasks that are due in `tasks:open`. The index says where to look,
never what is so: that the log and the metadata say. Any number of processes may do this at once, and with a worker that
is not dead after all: the claim lets one delivery win, and the write rule one end.
"""

import asyncio
import itertools
import math
import random
import time
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from taskiq.exceptions import SendTaskError
from taskiq_redis import RedisStreamBroker

from plugins import entries, keys, release
from plugins.limits import Ticket, next_scan_at
from plugins.message import Message
from services.api.redis_client import run_script
from services.api.settings import Settings
from services.api.tasks.ending import close, end, forget
from services.api.tasks.limits import Limiter
from services.api.tasks.queue import enqueue
from services.api.tasks.task import Answers, Task, ask, read, task_of

# Tasks per read of the index.
BATCH: Final = 200

# Seconds before its metadata expires at which a task that no worker ever took is ended: later there is nobody to tell.
MARGIN_S: Final = 600

# Seconds until a task that cannot be read is looked at again.
UNREADABLE_S: Final = 3_600

logger = structlog.get_logger()


class Recovery:
    """Looks after the tasks that nobody else looks after."""

    def __init__(self, redis: Redis, queue: RedisStreamBroker, limiter: Limiter, settings: Settings) -> None:
        self._redis = redis
        self._queue = queue
        self._limiter = limiter
        self._every_s = settings.scan_s
        self._lease_s = settings.lease_s
        self._unclaimed_s = settings.unclaimed_s
        self._in_touch_since = time.monotonic()

    async def run(self) -> None:
        """Look again and again, for ever; not all processes at the same time."""
        while True:
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))  # noqa: S311  # spreads load; keeps no secret
            try:
                await self.look()
            except (RedisError, SendTaskError) as error:
                self._in_touch_since = math.inf
                logger.warning("recovery did not get through", error=str(error.__cause__ or error))

    async def look(self) -> None:
        """Look once at what is due.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or refuses what has nothing to do with a single task.
            taskiq.exceptions.SendTaskError: the queue does.
        """
        seconds, _ = await self._redis.time()
        self._in_touch_since = min(self._in_touch_since, time.monotonic())
        for start in itertools.count(0, BATCH):
            due: Any = await self._redis.zrange(keys.OPEN, 0, seconds, byscore=True, offset=start, num=BATCH)
            for member in due:
                look = self._look_at_gate if member.startswith(keys.LIMIT_PREFIX.encode()) else self._look_at
                try:
                    await look(member.decode(), seconds)
                except (ValueError, RedisError, SendTaskError) as error:
                    await self._put_off(member.decode(), seconds, error)
            if len(due) < BATCH:
                return

    async def _put_off(self, member: str, now: int, error: Exception) -> None:
        """What keeps recovery from one must not keep it from those behind it. Anything else is raised again."""
        if isinstance(error.__cause__ or error, OutOfMemoryError):
            # It stays due: there may be room soon, and ends need none.
            logger.warning("task not recovered: Redis is full", task_id=member)
        elif isinstance(error, ValueError) or (isinstance(error, ResponseError) and "WRONGTYPE" in str(error)):
            logger.error("task not readable", task_id=member, error=str(error))
            await self._redis.zadd(keys.OPEN, {member: now + UNREADABLE_S}, xx=True)
        else:
            raise error

    async def _look_at(self, task_id: str, now: int) -> None:
        task = await read(self._redis, task_id)
        if task is None:
            await self._redis.zrem(keys.OPEN, task_id)
        elif task.end:
            # It has ended, and whoever wrote the end died before the bookkeeping.
            await close(self._redis, self._limiter, task, task.end.event, task.end.data)
        elif task.noted in entries.ENDS:
            await forget(self._redis, self._limiter, task)  # a log that is not kept any more
        elif task.lease_until > now * 1000:
            await self._look_again(task, now, -(-task.lease_until // 1000))
        elif task.noted == "queued":
            await self._unclaimed(task, now)
        elif time.monotonic() - self._in_touch_since >= self._lease_s:
            await self._abandoned(task, now)
        # Otherwise Redis has been away, or we have: living workers have not been able to renew. They get as long as a
        # lease; the task stays due.

    async def _unclaimed(self, task: Task, now: int) -> None:
        """No worker has taken it: its back-off is over, or the queue is only long, or has lost it."""
        queued = max(task.queued_at, task.lease_until) // 1000
        last_chance = task.queued_at // 1000 + keys.TASK_TTL_S - MARGIN_S
        if now >= last_chance:
            held = "its function was paused, or has limits that held it back"
            await self._fail(
                task, "not_started", f"no worker has taken the task in a day: none has the function, or {held}"
            )
            return
        # A second message does no harm: the claim drops it.
        await self._queue_again(task, now, min(now + max(now - queued, self._unclaimed_s), last_chance))

    async def _abandoned(self, task: Task, now: int) -> None:
        """Its worker has not renewed the lease."""
        if task.attempt >= task.attempts:
            await self._fail(task, "worker_lost", "the worker that ran the task is gone")
        elif await run_script(self._redis, release.SCRIPT, **release.arguments(task.task_id, None, 0)):
            logger.warning("task taken from a lost worker", task_id=task.task_id, attempt=task.attempt)
            await self._queue_again(task, now, now + self._unclaimed_s)

    async def _queue_again(self, task: Task, now: int, at: int) -> None:
        # In this order: a worker that claims it at once notes an earlier time, when its lease is over.
        await self._look_again(task, now, at)
        try:
            if task.limit_key is None:
                await enqueue(self._queue, Message(task.task_id, task.function))
            else:
                await self._limiter.acquire(task.limit_key, Ticket(task.task_id, task.attempt + 1), task.created_at)
        except SendTaskError:
            await self._look_again(task, now, now)
            raise

    async def _look_at_gate(self, gate: str, now: int) -> None:
        """Take out whoever is in and will not run any more, let in who may come; again as long as somebody waits.

        Who let others in may have died before it put them on the queue: those that have not begun are looked at sooner.
        """
        inside = await self._limiter.holders(gate)
        over: list[Ticket] = []
        for start in range(0, len(inside), BATCH):
            some = inside[start : start + BATCH]
            answers = await ask(self._redis, [ticket.task_id for ticket, _ in some])
            over += [ticket for (ticket, _), answer in zip(some, answers, strict=True) if is_over(ticket, answer, now)]
        looks = {
            ticket.task_id: soon(since // 1000, now, self._unclaimed_s)
            for ticket, since in inside
            if since and ticket not in over
        }
        if looks:
            await self._redis.zadd(keys.OPEN, dict(looks), xx=True, lt=True)
        answer = await self._limiter.release(gate, over)
        if answer.waiting:
            await self._redis.zadd(keys.OPEN, {gate: next_scan_at(answer, now, self._unclaimed_s)})
        else:
            await self._redis.zrem(keys.OPEN, gate)
            await self._limiter.release(gate)  # somebody may have come meanwhile: this puts the gate back

    async def _fail(self, task: Task, code: str, message: str) -> None:
        # If the log has grown since, its writer lives after all: the next look will tell.
        if await end(self._redis, self._limiter, task, "failed", {"code": code, "message": message}):
            logger.warning("task ended by recovery", task_id=task.task_id, code=code)

    async def _look_again(self, task: Task, now: int, at: int) -> None:
        """Not before that time, and until then its log, of earlier attempts, is kept as if it had been written to."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zadd(keys.OPEN, {task.task_id: at}, xx=True)
            pipeline.expire(keys.log(task.task_id), keys.CHUNK_TTL_S + at - now)
            await pipeline.execute()


def is_over(ticket: Ticket, answers: Answers, now: int) -> bool:
    """Whether this attempt runs no more, or never will. `now` is in seconds, by the server's clock."""
    try:
        task = task_of(ticket.task_id, answers)
    except ValueError:  # not what we write: no worker will run it, and it must not keep the others from being seen
        return True
    if task is None:
        return True
    if task.status in entries.ENDS:
        return task.lease_until <= now * 1000  # after a cancel its function may still clean up
    return task.attempt > ticket.attempt or (task.attempt == ticket.attempt and task.noted == "queued")


def soon(since: int, now: int, unclaimed_s: int) -> int:
    """When (s) to look at a task that was let in then and has not begun: after ever longer times, as at any other."""
    return since + max(unclaimed_s, 2 * (now - since))
