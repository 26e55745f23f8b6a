"""Idempotency-Key: for a day, the same request with the same key is the same task.

(https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/)
"""

import hashlib
import re
from typing import Any, Final

from litestar.plugins.problem_details import ProblemDetailsException
from redis.asyncio import Redis

from plugins import keys
from services.api.http.problems import problem
from services.api.tasks.task import Task, read

KEY: Final = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)


def fingerprint_of(function: str, encoded: bytes) -> str:
    """Return a digest that is equal for equal requests. `encoded` is the input, the same for equal inputs."""
    return hashlib.sha256(function.encode() + b"\0" + encoded).hexdigest()


def redis_keys_of(owner: str, key: str) -> tuple[str, str]:
    """Return the name in Redis under which this owner's key is reserved; and the one that an older release uses, whose
    reservations last for a day after an upgrade.

    Raises:
        ProblemDetailsException: 400, the key is malformed.
    """
    if not KEY.fullmatch(key):
        raise problem(
            400, "invalid-idempotency-key", "Invalid Idempotency-Key", "It must be 1 to 255 printable ASCII characters."
        )
    return keys.idempotency(owner, key), keys.idempotency_before(owner, key)


async def find_task(redis: Redis, redis_keys: tuple[str, str], fingerprint: str, owner: str) -> Task | None:
    """Return the task for which this owner's key is reserved, under one of these names; None if it is not reserved, or
    if the task does not exist (yet, or any more), or is of another owner.

    Raises:
        ProblemDetailsException: 422, the key was used for another request.
    """
    reservations: Any = await redis.mget(redis_keys)
    reservation = reservations[0] or reservations[1]
    if not reservation:
        return None
    return await read(redis, task_id_of(reservation, fingerprint), owner)


def reservation_of(task_id: str, fingerprint: str) -> str:
    """Return the value with which the step that creates this task reserves its key (create.lua)."""
    return f"{task_id}:{fingerprint}"


def task_id_of(reservation: bytes, fingerprint: str) -> str:
    """Return the id of the task in a reservation.

    Raises:
        ProblemDetailsException: 422, it was made by another request.
    """
    task_id, _, reserved_for = reservation.decode(errors="replace").partition(":")
    if reserved_for != fingerprint or not keys.TASK_ID.fullmatch(task_id):
        raise reused_key()
    return task_id


def reused_key() -> ProblemDetailsException:
    """422: a key is reserved for another request."""
    return problem(
        422,
        "idempotency-key-reused",
        "Idempotency-Key reused",
        "This key was used for another request within the last 24 hours. Send a new key with a new request.",
    )


def unknown_key() -> ProblemDetailsException:
    """404: a request resumes a stream, and its key has no task."""
    return problem(
        404,
        "unknown-task",
        "Unknown task",
        "With this key no task was started within the last 24 hours, so there is nothing to go on with. Without "
        "Last-Event-ID this request starts one.",
    )
