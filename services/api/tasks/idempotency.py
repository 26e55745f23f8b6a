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


def fingerprint(function: str, encoded: bytes) -> str:
    """Equal for equal requests. `encoded` is the input, the same for equal inputs."""
    return hashlib.sha256(function.encode() + b"\0" + encoded).hexdigest()


def place_of(owner: str, key: str) -> str:
    """Where Redis has what this owner's key stands for.

    Raises:
        ProblemDetailsException: 400, the key is malformed.
    """
    if not KEY.fullmatch(key):
        raise problem(
            400, "invalid-idempotency-key", "Invalid Idempotency-Key", "It must be 1 to 255 printable ASCII characters."
        )
    return keys.idempotency(owner, key)


async def first(redis: Redis, place: str, asked: str) -> Task | None:
    """The task that the key at this place stands for; None where there is none (yet, or any more). `asked` is a
    fingerprint.

    Raises:
        ProblemDetailsException: 422, the key was used for another request.
        redis.exceptions.RedisError: Redis does not answer.
    """
    held: Any = await redis.get(place)
    return await read(redis, id_in(held, asked)) if held else None


async def reserve(redis: Redis, place: str, task_id: str, asked: str) -> str:
    """Let the key at this place stand for this task, unless it stands for one already; the id of the one that it
    stands for then.

    Raises:
        ProblemDetailsException: 422, it was used for another request.
        redis.exceptions.RedisError: Redis does not answer.
    """
    mine = f"{task_id}:{asked}"
    held: Any = await redis.set(place, mine, nx=True, get=True, ex=keys.IDEMPOTENCY_TTL_S)
    return id_in(held, asked) if held else task_id


def id_in(held: bytes, asked: str) -> str:
    """The id of the task in what a key holds.

    Raises:
        ProblemDetailsException: 422, it was another request's.
    """
    task_id, _, held_for = held.decode().partition(":")
    if held_for != asked:
        raise problem(
            422,
            "idempotency-key-reused",
            "Idempotency-Key reused",
            "This key was used for another request within the last 24 hours. Send a new key with a new request.",
        )
    return task_id


def unknown_key() -> ProblemDetailsException:
    """404: a request would go on, and its key has no task."""
    return problem(
        404,
        "unknown-task",
        "Unknown task",
        "With this key no task was started within the last 24 hours, so there is nothing to go on with. Without "
        "Last-Event-ID this request starts one.",
    )
