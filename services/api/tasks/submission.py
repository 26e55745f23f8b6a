"""Start a task: check the input, create the task, and enqueue it."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from plugins import entries, keys, metadata
from plugins.declaration import Declaration
from plugins.limits import Ticket
from plugins.message import Message
from services.api.catalog import declaration_of
from services.api.http import validation
from services.api.http.problems import problem, unavailable
from services.api.tasks.ending import append_end
from services.api.tasks.idempotency import find_task, fingerprint_of, redis_key_of, reserve, unknown_key
from services.api.tasks.limits import Limiter, limit_key_of
from services.api.tasks.queue import QueueError, enqueue, entry_of
from services.api.tasks.task import Task, queue_reads, read, task_of

CREATE: Final = Path(__file__).with_name("create.lua").read_text()


class NewTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to run, and with which input."""

    function: str
    input: dict[str, Any] = {}


class Submission(msgspec.Struct, frozen=True):
    """A checked request. `input` is JSON, the same for equal inputs; `limit_key` is None without limits."""

    declaration: Declaration
    input: bytes
    limit_key: str | None


class Submissions(NamedTuple):
    """Starts tasks."""

    redis: Redis
    limiter: Limiter
    unclaimed_s: int

    async def start(
        self,
        owner: str,
        request: NewTask,
        idempotency_key: str | None,
        pointer: Sequence[str],
        *,
        resumes: bool,
    ) -> Task:
        """Check the request, create its task and enqueue it. Return the task as it is then.

        `pointer` is the path of the input in the body. A request that `resumes` a stream creates no task. A request
        whose key has a task is not checked again: the function may be another one by now.

        Raises:
            ProblemDetailsException: 404, the function is unknown, or the request resumes and there is no such task;
                400, the input does not fit its schema, or the key is malformed; 422, the key was used for another
                request; 503, the queue did not take the task.
            redis.exceptions.RedisError: Redis does not answer, or refused everything.
        """
        encoded = msgspec.json.encode(request.input, order="deterministic")
        fingerprint = fingerprint_of(request.function, encoded)
        redis_key = redis_key_of(owner, idempotency_key) if idempotency_key is not None else None
        if redis_key is not None and (task := await find_task(self.redis, redis_key, fingerprint)) is not None:
            return task if resumes else await self._finish(task)
        if resumes:
            raise unknown_key()
        submission = await self._check(request, encoded, pointer)
        fresh_id = task_id = secrets.token_hex(16)
        if redis_key is not None:
            task_id = await reserve(self.redis, redis_key, fresh_id, fingerprint)
        now = entries.now_ms()
        try:
            task = await self._create(owner, task_id, submission, now, fresh=task_id == fresh_id)
            if task_id == fresh_id and task.limit_key is not None:
                await self.limiter.acquire(task.limit_key, Ticket(task_id, 1), now)
        except (ResponseError, QueueError) as error:
            # Only a task that the server refused is known not to be queued; and this request may end only a task of its
            # own. Otherwise the task stays: recovery queues it again, and the client's next try finds it.
            if task_id == fresh_id and isinstance(error.__cause__ or error, ResponseError):
                await self.refuse(task_id, now, redis_key)
            raise unavailable(error) from error
        return task if task_id == fresh_id else await self._finish(task)

    async def _finish(self, task: Task) -> Task:
        """Finish an interrupted submission: index the task and enqueue it if it is still queued. Return the task.

        Raises:
            redis.exceptions.RedisError: Redis does not answer, or the queue did not take it.
        """
        if task.status in entries.ENDS:
            return task
        await self.redis.zadd(keys.OPEN, {task.task_id: entries.now_ms() // 1000 + self.unclaimed_s}, nx=True)
        if task.status == "queued" and task.limit_key is None:
            # It may be queued already: a client repeats a request that was not answered. The claim lets one message
            # win.
            await enqueue(self.redis, Message(task.task_id, task.function))
        elif task.status == "queued" and task.limit_key is not None and not task.attempt:
            # Recovery queues later attempts.
            await self.limiter.acquire(task.limit_key, Ticket(task.task_id, 1), task.created_at)
        return task

    async def _check(self, request: NewTask, encoded: bytes, pointer: Sequence[str]) -> Submission:
        """Check a request against what is announced of its function.

        Raises:
            ProblemDetailsException: 404, the function is unknown; 400, the input does not fit its schema.
        """
        declaration = await declaration_of(self.redis, request.function)
        if errors := validation.errors(declaration.input, request.input, pointer):
            raise problem(
                400,
                "invalid-input",
                "Invalid input",
                f"The input does not fit what {declaration.name} takes; "
                f"GET /functions/{declaration.name} has its schema.",
                errors=errors,
            )
        return Submission(declaration, encoded, limit_key_of(declaration, request.input))

    async def _create(self, owner: str, task_id: str, submission: Submission, now: int, *, fresh: bool) -> Task:
        """Create the task's metadata unless it is there, and read the task. `now` is in milliseconds.

        In the same round trip: enqueue a fresh task, unless it has limits, and let recovery scan it later; add it to
        its owner's list, and trim tasks that have expired from the list. Doing all that again does no harm.
        """
        declaration = submission.declaration
        fields = metadata.created(
            declaration.name,
            declaration.version,
            submission.input,
            owner,
            attempts=declaration.retries + 1,
            now=now,
            limit_key=submission.limit_key,
        )
        arguments = [part for field in fields.items() for part in field]
        owned = keys.by_owner(owner)
        async with self.redis.pipeline(transaction=False) as pipeline:
            # As text: to call a script by its hash would cost a pipeline of redis-py one more round trip.
            pipeline.eval(CREATE, 1, keys.metadata(task_id), keys.TASK_TTL_S, *arguments)
            queue_reads(pipeline, task_id)
            if fresh:  # a task that has ended must not be indexed again
                pipeline.zadd(keys.OPEN, {task_id: now // 1000 + self.unclaimed_s}, nx=True)
            pipeline.zadd(owned, {task_id: now}, nx=True)
            pipeline.zremrangebyscore(owned, 0, now - keys.TASK_TTL_S * 1000)
            pipeline.expire(owned, keys.TASK_TTL_S)
            if fresh and submission.limit_key is None:
                pipeline.xadd(keys.QUEUE, entry_of(Message(task_id, declaration.name)))
            _, hash_fields, length, last, *_ = await pipeline.execute()
        task = task_of(task_id, (hash_fields, length, last))
        assert task is not None, "it was created just now"
        return task

    async def refuse(self, task_id: str, now: int, redis_key: str | None) -> None:
        """End a task that cannot be queued, so that no client waits for it, and free its reserved key: the client sends
        its request again.

        Do nothing if another request with its key has created it, or if it is queued nevertheless and has started.
        """
        task = await read(self.redis, task_id)
        if task is None or task.created_at != now or task.attempt or task.length:
            return
        data = {"code": "not_started", "message": "the queue did not take the task"}
        if await append_end(self.redis, self.limiter, task, "failed", data) and redis_key is not None:
            await self.redis.delete(redis_key)
