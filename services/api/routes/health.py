"""Whether this process lives, and whether it can serve. Any client may ask, by any host; an admin is told why not."""

import asyncio
from typing import Final

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.api import redis_version
from services.api.catalog import Catalog
from services.api.http import problems
from services.api.http.request_rate import PASSES
from services.api.identity.authentication import NEEDS, OPEN
from services.api.identity.caller import Caller
from services.api.streams.hub import Hub
from services.api.tasks.memory import Memory

# Seconds for Redis to answer. A probe that hangs tells as little as a failed one, and later.
REDIS_TIMEOUT_S: Final = 2

# Instead of a state that only an admin is told.
NOT_OK: Final = "not ok"


class Health(msgspec.Struct, frozen=True):
    """`ok`, or what is not: for an admin; for other callers `not ok`. The status is still 200 if functions could not be
    loaded, because the others can run. So it is if the memory of Redis is nearly full: all but new tasks is served.
    """

    redis: str
    hub: str
    functions: str
    memory: str

    def without_details(self) -> "Health":
        """Return what every client may know: which of these are `ok`."""
        return Health(*("ok" if state == "ok" else NOT_OK for state in msgspec.structs.astuple(self)))


@get(
    "/health/live",
    summary="Check that the process lives",
    tags=["health"],
    opt={NEEDS: OPEN, PASSES: True},
    responses=problems.described(400),
)
async def live() -> dict[str, str]:
    """200 as long as the event loop turns."""
    return {"status": "ok"}


@get(
    "/health/ready",
    summary="Check that the process can serve",
    tags=["health"],
    opt={NEEDS: OPEN, PASSES: True},
    responses={
        503: ResponseSpec(Health, description="It cannot serve.", generate_examples=False),
        **problems.described(400),
    },
)
async def ready(
    caller: NamedDependency[Caller],
    redis: NamedDependency[Redis],
    catalog: NamedDependency[Catalog],
    hub: NamedDependency[Hub],
    memory: NamedDependency[Memory],
) -> Response[Health]:
    """200 when Redis answers and the hub hears; 503 otherwise, and while the process drains."""
    redis_state, functions = await redis_state_of(redis, catalog)
    health = Health(redis=redis_state, hub=hub_state_of(hub), functions=functions, memory=memory.state)
    told = health if caller.is_admin else health.without_details()
    return Response(told, status_code=200 if health.redis == health.hub == "ok" else 503)


async def redis_state_of(redis: Redis, catalog: Catalog) -> tuple[str, str]:
    """Return `ok`, or why Redis is of no use; and `ok`, or how many sources of functions are broken."""
    try:
        async with asyncio.timeout(REDIS_TIMEOUT_S):
            if wrong := await redis_version.too_old(redis):
                return wrong, "unknown"
            count = len(await catalog.broken())
    except (RedisError, TimeoutError) as error:
        return f"unavailable: {type(error).__name__}", "unknown"
    return "ok", f"{count} broken: GET /functions has them" if count else "ok"


def hub_state_of(hub: Hub) -> str:
    """Return `ok`, or why no stream is followed live."""
    if hub.draining:
        return "draining"
    return "ok" if hub.connected else "disconnected"
