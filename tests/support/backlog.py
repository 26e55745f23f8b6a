"""Many tasks in the queue at once, as the API creates them; and one whose worker is dead."""

from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from plugins import keys, metadata
from plugins.message import FIELD, Message, encode
from services.api.tasks.submission import CREATE
from services.worker.attempt.commands import Commands


async def create(redis: Redis, number: int, *, function: str = "f", due: bool = True) -> list[str]:
    """Create tasks as the API does. If they are `due`, no worker has claimed them for a while."""
    ids = [uuid4().hex for _ in range(number)]
    for start in range(0, number, 500):
        await create_batch(redis, ids[start : start + 500], function, due=due)
    return ids


async def create_batch(redis: Redis, ids: list[str], function: str, *, due: bool) -> None:
    """Create these, in one round trip."""
    async with redis.pipeline(transaction=False) as pipeline:
        for task_id in ids:
            fields = metadata.created(function, "", "x", attempts=1, input_ttl_s=0)
            names = [keys.metadata(task_id), keys.OPEN, keys.by_owner("x"), keys.QUEUE, keys.task_input(task_id)]
            names += [keys.open_by_owner("x"), keys.open_checked("x")]
            message = encode(Message(task_id, function))
            first_look = keys.WAITING - 1 if due else keys.WAITING + 60
            parts: list[Any] = [task_id, keys.TASK_TTL_S, first_look, FIELD, message, b"{}", *[1_000_000] * 3, "", 0]
            pipeline.eval(CREATE, len(names), *names, *parts, *(part for field in fields.items() for part in field))
        await pipeline.execute()


async def lost(redis: Redis, *, function: str = "f") -> str:
    """Create a task that a worker has claimed which died long ago. Its message is acknowledged."""
    (task_id,) = await create(redis, 1, function=function)
    entry = await redis.hget(keys.metadata(task_id), metadata.MESSAGE)
    assert await Commands(redis, {}).claims.take(task_id, "w", -1) is not None
    await redis.xdel(keys.QUEUE, entry or "")
    await redis.zadd(keys.OPEN, {task_id: 1}, xx=True)
    return task_id
