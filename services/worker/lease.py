"""The lease: every few seconds all tasks of this process are renewed in one round trip.

A renewal also keeps the log of a silent function alive, and is where a worker that missed a cancel learns of it.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError
from redis.typing import EncodableT

from plugins import keys
from services.worker.run import Run

SCRIPT: Final = Path(__file__).with_name("renew.lua").read_text()

logger = structlog.get_logger()


async def keep(redis: Redis, script: AsyncScript, running: Mapping[str, Run], lease_s: float, every_s: float) -> None:
    """Renew whatever is in `running`, for ever. A failed renewal is tried again at the next one's time."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await renew(redis, script, list(running.values()), lease_s)
        except RedisError as error:
            logger.warning("leases not renewed", tasks=len(running), error=str(error))


async def renew(redis: Redis, script: AsyncScript, runs: list[Run], lease_s: float) -> None:
    """Renew these runs, and stop those whose task is no longer theirs."""
    if not runs:
        return
    async with redis.pipeline(transaction=False) as pipeline:
        for run in runs:
            task_id = run.claim.task_id
            arguments: list[EncodableT] = [run.claim.token, int(lease_s * 1000), keys.TASK_TTL_S]
            await script(keys=[keys.metadata(task_id)], args=arguments, client=pipeline)
            pipeline.expire(keys.chunks(task_id), keys.CHUNK_TTL_S)
        answers = await pipeline.execute()
    for run, kept in zip(runs, answers[::2], strict=True):
        if not kept:
            logger.info("stopped: the task is no longer ours", task_id=run.claim.task_id)
            run.stop(None)
