"""Hearing of cancelled tasks. A call that was missed is learnt of at the next renewal of the lease."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import keys
from services.worker.run import Run

# Seconds between tries to listen again. Nothing is lost meanwhile: see above.
PAUSE_S: Final = 1

logger = structlog.get_logger()


async def listen(redis: Redis, running: Mapping[str, Run]) -> None:
    """Stop what is cancelled, for ever. The log has its end already: the api appends it before it calls."""
    while True:
        try:
            async with redis.pubsub() as pubsub:
                await pubsub.subscribe(keys.CANCEL)
                async for message in pubsub.listen():
                    if message["type"] == "message" and (run := running.get(message["data"].decode(errors="replace"))):
                        logger.info("cancelled", task_id=run.claim.task_id)
                        run.stop(None)
        except RedisError as error:
            logger.warning("not hearing of cancelled tasks", error=str(error))
            await asyncio.sleep(PAUSE_S)
