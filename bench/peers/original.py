"""The pattern that this project replaces, written out from its description.

A connection to Redis for every chunk; a reader reads the list, then subscribes, with connections of its own.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import ClassVar
from uuid import uuid4

import redis.asyncio
from litestar import Litestar, get
from litestar.response import ServerSentEvent

from bench import machine
from bench.peers import Stream, System
from bench.work import Work, chunks_of
from plugins import keys

END = "[DONE]"


async def append(redis_url: str, task_id: str, chunk: str) -> None:
    """As its worker does for each chunk."""
    async with redis.asyncio.from_url(redis_url) as client:
        await client.rpush(keys.log(task_id), chunk)
        await client.expire(keys.log(task_id), keys.CHUNK_TTL_S)
        await client.publish(keys.channel(task_id), chunk)


async def follow(redis_url: str, task_id: str) -> AsyncIterator[str]:
    """As its API does for each reader."""
    async with redis.asyncio.from_url(redis_url, decode_responses=True) as client, client.pubsub() as pubsub:
        for chunk in await client.lrange(keys.log(task_id), 0, -1):
            yield str(chunk)
        await pubsub.subscribe(keys.channel(task_id))
        async for message in pubsub.listen():
            if message["type"] == "message":
                if message["data"] == END:
                    return
                yield message["data"]


@get("/stream/{task_id:str}", sync_to_thread=False)
def stream(task_id: str) -> ServerSentEvent:
    """One reader."""
    return ServerSentEvent(follow(os.environ["REDIS_URL"], task_id))


def create_app() -> Litestar:
    """Its API."""
    return Litestar([stream])


class Written(Stream):
    """A list and a channel."""

    def __init__(self, url: str, task_id: str, redis_url: str, work: Work) -> None:
        self.url = url
        self._task_id = task_id
        self._redis_url = redis_url
        self._work = work

    async def publish(self) -> None:
        """Chunk by chunk."""
        async for chunk in chunks_of(self._work):
            await append(self._redis_url, self._task_id, chunk)


class Original(System):
    """Litestar's own SSE over it."""

    name: ClassVar = "original pattern"

    def missing(self) -> str | None:
        """It is here."""
        return None

    @property
    def version(self) -> str:
        """Its parts, with their versions."""
        return machine.packages("litestar", "uvicorn", "redis")

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """Its API."""
        serve = ["-m", "uvicorn", "--factory", "bench.peers.original:create_app", "--port", "0", "--no-access-log"]
        env = {"REDIS_URL": redis_url}
        self.server = machine.start(stack, machine.pinned(machine.SERVER, machine.python(*serve)), env)
        self.url = self.server.wait_for(r"running on (http://[\d.:]+)").group(1)
        self._redis_url = redis_url

    async def stream(self, work: Work) -> Stream:
        """Nothing to prepare."""
        task_id = uuid4().hex
        return Written(f"{self.url}/stream/{task_id}", task_id, self._redis_url, work)
