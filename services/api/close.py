"""The bookkeeping after an end: the log says it first, then the metadata, then the index of open tasks."""

from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from plugins import entries, keys


async def close(redis: Redis, task_id: str, event: str, data: Any) -> None:
    """Note how a task ended. Doing it twice changes nothing; a crash before it leaves the log, which is the truth."""
    async with redis.pipeline(transaction=True) as pipeline:
        end: dict[FieldT, EncodableT] = {
            "status": event,
            "end": msgspec.json.encode(data),
            "ended_at": entries.now_ms(),
        }
        pipeline.hset(keys.metadata(task_id), mapping=end)
        pipeline.expire(keys.metadata(task_id), keys.TASK_TTL_S)
        await pipeline.execute()
    await redis.zrem(keys.OPEN, task_id)
