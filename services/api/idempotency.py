"""Idempotency-Key: for a day, the same request with the same key is the same task.

(https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/)
"""

import re
from typing import Annotated, Any, Final

from litestar.params import HeaderParameter
from redis.asyncio import Redis

from plugins import keys
from services.api.problems import problem
from services.api.task import OWNER

KEY: Final = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key", description="The same request with the same key within 24 h: the same task."
    ),
]


async def reserve(redis: Redis, key: str, task_id: str, fingerprint: str, *, goes_on: bool) -> str:
    """The id of the task that this key stands for: this one, unless there has been the same request with it.

    `fingerprint` is equal for equal requests.

    Raises:
        ProblemDetailsException: 400, the key is malformed; 422, it was used for another request; 404, it goes on, and
            there is no such task any more.
    """
    if not KEY.fullmatch(key):
        raise problem(
            400, "invalid-idempotency-key", "Invalid Idempotency-Key", "It must be 1 to 255 printable ASCII characters."
        )
    mine = f"{task_id}:{fingerprint}"
    place = keys.idempotency(OWNER, key)
    held: Any
    if goes_on:
        held = await redis.get(place)
    else:
        held = await redis.set(place, mine, nx=True, get=True, ex=keys.IDEMPOTENCY_TTL_S)
    first_id, _, first = (held.decode() if held else mine).partition(":")
    if goes_on and not await redis.exists(keys.metadata(first_id)):
        raise problem(
            404,
            "unknown-task",
            "Unknown task",
            "With this key no task was started within the last 24 hours, so there is nothing to go on with. Without "
            "Last-Event-ID this request starts one.",
        )
    if first != fingerprint:
        raise problem(
            422,
            "idempotency-key-reused",
            "Idempotency-Key reused",
            "This key was used for another request within the last 24 hours. Send a new key with a new request.",
        )
    return str(first_id)
