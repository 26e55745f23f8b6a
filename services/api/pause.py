"""PUT and DELETE /functions/{name}/paused: a function is not started any more, until it is again.

The mark in `keys.PAUSED` is all there is to it. Workers hold the tasks that they meet of a paused function, and take
them up when it is gone: so nothing here can be left half done.
"""

from typing import Final

import structlog
from litestar import delete, put
from redis.asyncio import Redis

from plugins import keys
from services.api import script
from services.api.catalog import Function, Name, function_of

# Also where Redis is full: a function that misbehaves may have filled it.
PAUSE: Final = "#!lua flags=allow-oom\nreturn redis.call('SADD', KEYS[1], ARGV[1])"

logger = structlog.get_logger()


@put("/functions/{name:str}/paused", summary="Pause a function", tags=["functions"])
async def pause(name: Name, redis: Redis) -> Function:
    """Workers start it no more, from the moment they hear of it. Its tasks wait, those that are submitted later too;
    what runs goes on.
    """
    await function_of(redis, name)
    if await script.run(redis, PAUSE, [keys.PAUSED], [name]):
        logger.warning("function paused", function=name)
    await redis.publish(keys.HELD_NEWS, name)
    return await function_of(redis, name)


@delete("/functions/{name:str}/paused", summary="Resume a function", status_code=200, tags=["functions"])
async def resume(name: Name, redis: Redis) -> Function:
    """What has waited starts, in order."""
    # One that is not announced any more, too: its mark would stay for ever.
    if await redis.srem(keys.PAUSED, name):
        logger.warning("function resumed", function=name)
    await redis.publish(keys.HELD_NEWS, name)
    return await function_of(redis, name)
