"""FastAPI with sse-starlette over Redis pub/sub, as most tutorials show it. It keeps nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

import redis.asyncio

from bench import machine
from bench.peers import Stream, System
from bench.work import Work, chunks_of

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_app() -> "FastAPI":
    """A subscription for each reader."""
    from fastapi import FastAPI
    from sse_starlette import EventSourceResponse

    app = FastAPI()
    client = redis.asyncio.from_url(os.environ["REDIS_URL"], decode_responses=True, max_connections=20_000)

    async def follow(channel: str) -> AsyncIterator[dict[str, str]]:
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    yield {"data": message["data"]}

    async def stream(channel: str) -> EventSourceResponse:
        return EventSourceResponse(follow(channel))

    app.add_api_route("/stream/{channel}", stream)
    return app


class Channel(Stream):
    """A channel."""

    def __init__(self, url: str, channel: str, client: redis.asyncio.Redis, work: Work) -> None:
        self.url = url
        self._channel = channel
        self._client = client
        self._work = work

    async def publish(self) -> None:
        """Chunk by chunk."""
        async for chunk in chunks_of(self._work):
            await self._client.publish(self._channel, chunk)


class FastAPISSE(System):
    """FastAPI, uvicorn, Redis."""

    name: ClassVar = "FastAPI + sse-starlette"

    def missing(self) -> str | None:
        """Packages of the group `bench`."""
        return None if find_spec("fastapi") and find_spec("sse_starlette") else "fastapi, sse-starlette"

    @property
    def version(self) -> str:
        """Its parts, with their versions."""
        return machine.packages("fastapi", "sse-starlette", "uvicorn")

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """Its API."""
        serve = ["-m", "uvicorn", "--factory", "bench.peers.fastapi_sse:create_app", "--port", "0", "--no-access-log"]
        env = {"REDIS_URL": redis_url}
        self.server = machine.start(stack, machine.pinned(machine.SERVER, machine.python(*serve)), env)
        self.url = self.server.wait_for(r"running on (http://[\d.:]+)").group(1)
        self._client = redis.asyncio.from_url(redis_url)
        stack.push_async_callback(self._client.aclose)

    async def stream(self, work: Work) -> Stream:
        """Nothing to prepare."""
        channel = uuid4().hex
        return Channel(f"{self.url}/stream/{channel}", channel, self._client, work)
