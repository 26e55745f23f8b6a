"""Start a task: check the input, create the task, and enqueue it."""

import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from litestar.plugins.problem_details import ProblemDetailsException
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from plugins import keys, metadata, scripts
from plugins.declaration import Declaration
from plugins.function import FUNCTION_NAME
from plugins.limits import Ticket
from plugins.message import FIELD, Message, encode
from services.api.catalog import Catalog
from services.api.http import validation
from services.api.http.problems import problem, unavailable
from services.api.http.validation import Errors
from services.api.identity.caller import FUNCTIONS_PREFIX, Caller
from services.api.identity.refusals import insufficient
from services.api.tasks.idempotency import (
    find_task,
    fingerprint_of,
    redis_keys_of,
    reservation_of,
    reused_key,
    task_id_of,
    unknown_key,
)
from services.api.tasks.limits import Limiter, limit_key_of
from services.api.tasks.memory import Memory
from services.api.tasks.open_tasks import OpenTasks
from services.api.tasks.task import Task, Wanted, read_call, task_of

CREATE: Final = scripts.read("create.lua", __file__)

logger = structlog.get_logger()


class NewTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to run, and with which input."""

    function: str
    input: dict[str, Any] = {}


class Submission(msgspec.Struct, frozen=True):
    """A checked request. `input` is JSON, the same for equal inputs; `limit_key` is None without limits. `reservation`
    is the name in Redis of its Idempotency-Key, None if it has none.
    """

    declaration: Declaration
    input: bytes
    limit_key: str | None
    fingerprint: str
    reservation: str | None


class Submissions(NamedTuple):
    """Starts tasks."""

    redis: Redis
    catalog: Catalog
    limiter: Limiter
    unclaimed_s: int
    input_ttl_s: int
    memory: Memory
    open_tasks: OpenTasks

    async def start(
        self,
        caller: Caller,
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
            ProblemDetailsException: 403, the caller may not start the function; 404, it is unknown, or the request
                resumes and there is no such task; 400, the input does not fit its schema, or the key is malformed; 422,
                the key was used for another request; 503, Redis is nearly full, or refuses the task.
            QuotaError: the owner, all owners, or the limit have as many open tasks as they may.
            redis.exceptions.RedisError: Redis does not answer.
        """
        # A name that none can have is an unknown one, as for every caller.
        if FUNCTION_NAME.fullmatch(request.function) and not caller.may_start(request.function):
            raise insufficient(FUNCTIONS_PREFIX + request.function)
        encoded = msgspec.json.encode(request.input, order="deterministic")
        fingerprint = fingerprint_of(request.function, encoded)
        redis_keys = redis_keys_of(caller.owner, idempotency_key) if idempotency_key is not None else None
        if (
            redis_keys is not None
            and (task := await find_task(self.redis, redis_keys, fingerprint, caller.owner)) is not None
        ):
            return task
        if resumes:
            raise unknown_key()
        declaration = await self._check(request, caller, pointer)
        self.memory.refuse_if_full()
        limit_key = limit_key_of(declaration, request.input)
        submission = Submission(declaration, encoded, limit_key, fingerprint, redis_keys[0] if redis_keys else None)
        try:
            task = await self._create(caller, secrets.token_hex(16), submission)
        except ResponseError as error:
            raise unavailable(error) from error
        if task.limit_key is not None and task.status == "queued" and not task.attempt:
            await self._acquire(task.limit_key, task)
        return task

    async def _acquire(self, limit_key: str, task: Task) -> None:
        try:
            await self.limiter.acquire(limit_key, Ticket(task.task_id, 1), task.created_at)
        except RedisError as error:  # the task is created, and recovery acquires the limit within `unclaimed_s`
            logger.warning("limit not acquired", task_id=task.task_id, error=str(error))

    async def _check(self, request: NewTask, caller: Caller, pointer: Sequence[str]) -> Declaration:
        """Check a request against what is announced of its function, and return that.

        Raises:
            ProblemDetailsException: 404, the function is unknown; 400, the input does not fit its schema.
        """
        declaration = await self.catalog.declaration_of(request.function, caller)
        if (errors := validation.errors(declaration.input, request.input, pointer)).told:
            raise _invalid_input(declaration.name, errors)
        return declaration

    async def _create(self, caller: Caller, task_id: str, submission: Submission) -> Task:
        """Create the task unless it exists, and read it, in one round trip. If its key was reserved meanwhile for
        another id, the task gets that one, in one more.

        Its key is reserved, and a task without limits enqueued, in the same step. So a task that exists needs nothing
        more, and one that Redis or a quota refuses has left nothing.

        Raises:
            ProblemDetailsException: 422, its key was reserved for another request, or for another owner's task.
            QuotaError: as `start`.
        """
        declaration, limit_key = submission.declaration, submission.limit_key
        fields = metadata.created(
            declaration.name,
            declaration.version,
            caller.owner,
            attempts=declaration.retries + 1,
            input_ttl_s=self.input_ttl_s,
            limit_key=limit_key,
            reservation=submission.reservation,
        )
        names = [keys.metadata(task_id), keys.OPEN, keys.by_owner(caller.owner), keys.QUEUE, keys.task_input(task_id)]
        names += [keys.open_by_owner(caller.owner), keys.open_checked(caller.owner)]
        names += [name for name in (submission.reservation, limit_key) if name is not None]
        message = encode(Message(task_id, declaration.name, owner=caller.owner)) if limit_key is None else b""
        first_look = keys.WAITING + self.unclaimed_s
        arguments: list[Any] = [task_id, keys.TASK_TTL_S, first_look, FIELD, message, submission.input]
        open_tasks = self.open_tasks.of(caller.limits)
        arguments += open_tasks.arguments
        reserved = reservation_of(task_id, submission.fingerprint) if submission.reservation else ""
        arguments += [reserved, keys.IDEMPOTENCY_TTL_S]
        parts = [part for field in fields.items() for part in field]
        async with self.redis.pipeline(transaction=False) as pipeline:
            # As text: to call a script by its hash would cost a pipeline of redis-py one more round trip.
            pipeline.eval(CREATE, len(names), *names, *arguments, *parts)
            pipeline.execute_command(*read_call([Wanted(task_id, caller.owner)]))
            refused, (raw,) = await pipeline.execute()
        if isinstance(refused, list):
            return await self._create(caller, task_id_of(refused[0], submission.fingerprint), submission)
        if refused:
            raise open_tasks.refusal(refused)
        task = task_of(task_id, raw)
        if task is None:  # its key is reserved for a task of another owner, by another program
            raise reused_key()
        return task


def _invalid_input(name: str, errors: Errors) -> ProblemDetailsException:
    detail = f"The input does not fit what {name} takes; GET /functions/{name} has its schema."
    if errors.more is None:
        detail += " It is large, so only the first error is told."
    elif errors.more:
        detail += f" {errors.more} more errors are not told."
    more: dict[str, Any] = {"more": errors.more} if errors.more else {}
    return problem(400, "invalid-input", "Invalid input", detail, errors=errors.told, **more)
