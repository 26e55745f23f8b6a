"""Starting a task: check the input, note the task, and put it on the queue."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq.exceptions import SendTaskError
from taskiq_redis import RedisStreamBroker

from plugins import entries, keys, metadata
from plugins.declaration import Declaration
from plugins.limits import Ticket
from plugins.message import Message
from services.api.catalog import declaration_of
from services.api.http.problems import problem, unavailable
from services.api.http.validation import faults
from services.api.tasks.ending import end
from services.api.tasks.idempotency import fingerprint, first, place_of, reserve, unknown_key
from services.api.tasks.limits import Limiter, limit_key_of
from services.api.tasks.queue import enqueue, entry_of
from services.api.tasks.task import Task, question, read, task_of

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


class Services(NamedTuple):
    """What starting a task takes."""

    redis: Redis
    queue: RedisStreamBroker
    limiter: Limiter
    unclaimed_s: int


async def start(
    services: Services,
    owner: str,
    request: NewTask,
    idempotency_key: str | None,
    pointer: Sequence[str],
    *,
    goes_on: bool,
) -> Task:
    """Check, note and queue it: the task as it is then. `pointer` is where the input stands in the body.

    A request whose key has a task is not checked again: the function may be another one by now.

    Raises:
        ProblemDetailsException: 404, the function is unknown, or it goes on and there is no such task; 400, the input
            does not fit its schema, or the key is malformed; 422, the key was used for another request; 503, the queue
            did not take it.
        redis.exceptions.RedisError: Redis does not answer, or took nothing.
    """
    redis = services.redis
    encoded = msgspec.json.encode(request.input, order="deterministic")
    asked = fingerprint(request.function, encoded)
    place = place_of(owner, idempotency_key) if idempotency_key is not None else None
    if place is not None and (task := await first(redis, place, asked)) is not None:
        return task if goes_on else await again(services, task)
    if goes_on:
        raise unknown_key()
    submission = await check(redis, request, encoded, pointer)
    fresh = task_id = secrets.token_hex(16)
    if place is not None:
        task_id = await reserve(redis, place, fresh, asked)
    now = entries.now_ms()
    try:
        task = await note(services, owner, task_id, submission, now, fresh=task_id == fresh)
        if task_id == fresh and task.limit_key is not None:
            await services.limiter.acquire(task.limit_key, Ticket(task_id, 1), now)
    except (ResponseError, SendTaskError) as error:
        # Only what the server refused may be known not to be queued; and only our own task is ours to end. Otherwise
        # the task stays: recovery queues it again, and the client's next try finds it.
        cause = error.__cause__ if isinstance(error, SendTaskError) else error
        if task_id == fresh and isinstance(cause, ResponseError):
            await refuse(redis, services.limiter, task_id, now, place)
        raise unavailable(cause or error) from error
    return task if task_id == fresh else await again(services, task)


async def again(services: Services, task: Task) -> Task:
    """It was noted before, perhaps by who died then: do what may be left undone. The task itself, for who goes on.

    Raises:
        ProblemDetailsException: 503, the queue did not take it.
        redis.exceptions.RedisError: Redis does not answer.
    """
    if task.status in entries.ENDS:
        return task
    await services.redis.zadd(keys.OPEN, {task.task_id: entries.now_ms() // 1000 + services.unclaimed_s}, nx=True)
    try:
        if task.status == "queued" and task.limit_key is None:
            # Perhaps not for the first time: a client repeats what it got no answer to. The claim lets one message win.
            await enqueue(services.queue, Message(task.task_id, task.function))
        elif (
            task.status == "queued" and not task.attempt and task.limit_key is not None
        ):  # later attempts are recovery's
            await services.limiter.acquire(task.limit_key, Ticket(task.task_id, 1), task.created_at)
    except SendTaskError as error:
        raise unavailable(error.__cause__ or error) from error
    return task


async def check(redis: Redis, request: NewTask, encoded: bytes, pointer: Sequence[str]) -> Submission:
    """The request with what it refers to.

    Raises:
        ProblemDetailsException: 404, the function is unknown; 400, the input does not fit its schema.
        redis.exceptions.RedisError: Redis does not answer.
    """
    declaration = await declaration_of(redis, request.function)
    if wrong := faults(declaration.input, request.input, pointer):
        raise problem(
            400,
            "invalid-input",
            "Invalid input",
            f"The input does not fit what {declaration.name} takes; GET /functions/{declaration.name} has its schema.",
            errors=wrong,
        )
    return Submission(declaration, encoded, limit_key_of(declaration, request.input))


async def note(services: Services, owner: str, task_id: str, submission: Submission, now: int, *, fresh: bool) -> Task:
    """Create the task's metadata unless it is there, and read it. `now` is in milliseconds.

    In the same trip, queue a fresh one, unless it has a gate, and let recovery look at it in a while; let its owner
    find it, and what is no longer kept leave the owner's list. To do all that once more does no harm.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses a part.
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
    async with services.redis.pipeline(transaction=False) as pipeline:
        # By its text: a script by its hash would cost a pipeline of redis-py's one more trip.
        pipeline.eval(CREATE, 1, keys.metadata(task_id), keys.TASK_TTL_S, *arguments)
        question(pipeline, task_id)
        if fresh:  # what has ended must not come back
            pipeline.zadd(keys.OPEN, {task_id: now // 1000 + services.unclaimed_s}, nx=True)
        pipeline.zadd(owned, {task_id: now}, nx=True)
        pipeline.zremrangebyscore(owned, 0, now - keys.TASK_TTL_S * 1000)
        pipeline.expire(owned, keys.TASK_TTL_S)
        if fresh and submission.limit_key is None:
            pipeline.xadd(keys.QUEUE, entry_of(Message(task_id, declaration.name)))
        _, fields_now, length, last, *_ = await pipeline.execute()
    task = task_of(task_id, (fields_now, length, last))
    assert task is not None, "it was noted just now"
    return task


async def refuse(redis: Redis, limiter: Limiter, task_id: str, now: int, place: str | None) -> None:
    """End a task that cannot be queued, so that nobody waits for it, and give its key back, which is at this place: the
    client asks again.

    Unless another request with its key has noted it, or it is queued all the same and has begun.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses.
    """
    task = await read(redis, task_id)
    if task is None or task.created_at != now or task.attempt or task.length:
        return
    data = {"code": "not_started", "message": "the queue did not take the task"}
    if await end(redis, limiter, task, "failed", data) and place is not None:
        await redis.delete(place)
