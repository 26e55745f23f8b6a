"""Plain Taskiq over its Redis stream broker, with acknowledgement: `taskiq worker bench.peers.plain_taskiq:broker`."""

import os
import time
from typing import Annotated

from redis.asyncio import Redis
from taskiq import Context, TaskiqDepends
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))

# Where the task that is timed says when it was started.
STARTED = "bench:started"


@broker.task
async def nothing(number: str) -> None:
    """Do nothing."""


@broker.task
async def started(number: str, context: Annotated[Context, TaskiqDepends()]) -> None:
    """Say when it was started."""
    redis: Redis = Redis(connection_pool=context.broker.connection_pool)  # type: ignore[attr-defined]  # the broker above
    await redis.publish(STARTED, f"@{time.time_ns()}")
