"""The least that a first chunk can take with these libraries: a POST, Taskiq's kick, a publish, the answer.

Nothing is checked, noted, claimed or kept, and it serves one client at a time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar, post
from litestar.datastructures import State
from litestar.response import Stream
from redis.asyncio import Redis

from bench.peers.plain_taskiq import STARTED, broker, started


@asynccontextmanager
async def subscription(app: Litestar) -> AsyncIterator[None]:
    """One for all requests: it is there when they come."""
    async with Redis(connection_pool=broker.connection_pool) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(STARTED)
        await pubsub.get_message(timeout=5)
        app.state.pubsub = pubsub
        yield


@post("/tasks", status_code=200)
async def submit(state: State) -> Stream:
    """Kick the task, and answer what it publishes."""
    await started.kiq("")  # type: ignore[call-overload]  # Taskiq brings the context

    async def first() -> AsyncIterator[bytes]:
        while await state.pubsub.get_message(ignore_subscribe_messages=True, timeout=5) is None:
            pass
        yield b"data: 1\n\n"

    return Stream(first(), media_type="text/event-stream")


def create_app() -> Litestar:
    """Its API."""
    return Litestar([submit], lifespan=[subscription])
