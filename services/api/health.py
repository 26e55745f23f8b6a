"""Whether this process lives, and whether it can serve."""

import asyncio
from typing import Final

import msgspec
from litestar import Response, get
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.api.hub import Hub

# Seconds for Redis to answer. A probe that hangs is as good as a red one, and later.
PATIENCE_S: Final = 2


class Health(msgspec.Struct, frozen=True):
    """`ok`, or what is not."""

    redis: str
    hub: str


@get("/health/live", summary="The process lives", tags=["health"])
async def live() -> dict[str, str]:
    """200 as long as the event loop turns."""
    return {"status": "ok"}


@get("/health/ready", summary="The process can serve", tags=["health"])
async def ready(redis: Redis, hub: Hub) -> Response[Health]:
    """200 when Redis answers and the hub hears; 503 otherwise, and while the process drains."""
    health = Health(redis=await ping(redis), hub=state_of(hub))
    return Response(health, status_code=200 if health == Health("ok", "ok") else 503)


async def ping(redis: Redis) -> str:
    """`ok`, or why Redis does not answer."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await redis.ping()
    except (RedisError, TimeoutError) as error:
        return f"unavailable: {type(error).__name__}"
    return "ok"


def state_of(hub: Hub) -> str:
    """`ok`, or why no stream is followed live."""
    if hub.draining:
        return "draining"
    return "ok" if hub.connected else "disconnected"
