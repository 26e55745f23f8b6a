"""Tasks, looked at in Redis past the API: whether they have ended, and what is noted of them."""

from typing import Any, Final
from uuid import uuid4

import msgspec
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from plugins import entries, keys, metadata
from tests.support.logs import Said, ends, lines_of, log_of
from tests.support.waiting import until

# Printed by a worker at the one renewal that finds its task ended: the worker renews that lease no more.
RENEWED_AFTER_THE_END: Final = "lease lost, task stopped"


async def closed(redis: Redis, task_id: str) -> None:
    """Wait until nothing has to look at a task any more: it has ended, to the last of its bookkeeping."""

    async def is_closed() -> bool:
        return await redis.zscore(keys.OPEN, task_id) is None

    await until(is_closed, f"{task_id} is no longer open", details=lambda: state(redis, task_id))


async def end_noted(redis: Redis, task_id: str) -> None:
    """Wait until a task's metadata say when it ended."""
    await until(
        lambda: redis.hexists(keys.metadata(task_id), "ended_at"),
        f"the end of {task_id} is noted",
        details=lambda: state(redis, task_id),
    )


async def ended(redis: Redis, task_id: str) -> list[Said]:
    """Wait until a task has ended and recovery is done with it; its log."""
    await closed(redis, task_id)
    log = await log_of(redis, task_id)
    assert ends(log) == [log[-1][0]]
    return log


async def state(redis: Redis, task_id: str) -> dict[str, Any]:
    """All there is to know of a task that does not end."""
    return {
        "now": await redis.time(),
        "due": await redis.zscore(keys.OPEN, task_id),
        "metadata": await redis.hgetall(keys.metadata(task_id)),
        "entries": (await lines_of(redis, task_id))[-3:],
        "pending": await redis.xpending_range(keys.QUEUE, keys.QUEUE_GROUP, "-", "+", 10),
        "clients": [(each["name"], each["cmd"], each["idle"]) for each in await redis.client_list()],
    }


async def renewed(redis: Redis, task_id: str) -> None:
    """Wait for the next renewal of a task's lease."""
    lease = await redis.hget(keys.metadata(task_id), "lease_until")

    async def later() -> bool:
        return await redis.hget(keys.metadata(task_id), "lease_until") != lease

    await until(later)


async def note(redis: Redis, function: str, *, owner: str = keys.ANONYMOUS, **given: Any) -> str:
    """Note a task as the api does, and do not queue it; its id."""
    task_id = uuid4().hex
    times = dict.fromkeys((metadata.CREATED_AT, metadata.QUEUED_AT), entries.now_ms())
    created = metadata.created(function, "0", owner, attempts=2, input_ttl_s=0)
    await redis.set(keys.task_input(task_id), msgspec.json.encode(given), ex=keys.TASK_TTL_S)
    await redis.hset(keys.metadata(task_id), mapping=created | times)
    await redis.expire(keys.metadata(task_id), keys.TASK_TTL_S)
    return task_id


def note_ended(redis: SyncRedis, owner: str = keys.ANONYMOUS) -> str:
    """Note a task of this owner that has ended, with a log of four entries, where no worker runs; its id."""
    task_id = uuid4().hex
    fields = metadata.created("count", "1", owner, attempts=1, input_ttl_s=0)
    times = dict.fromkeys((metadata.CREATED_AT, metadata.QUEUED_AT), 1)
    events = ["chunk", "chunk", "chunk", "done"]
    lines = [entries.encode(event, 1, seq, 1, {"chunks": 3}) for seq, event in enumerate(events)]
    redis.hset(keys.metadata(task_id), mapping=fields | times | {metadata.STATUS: "done"})
    redis.rpush(keys.log(task_id), *(line.decode() for line in lines))
    for key in (keys.metadata(task_id), keys.log(task_id)):
        redis.expire(key, keys.CHUNK_TTL_S)
    return task_id
