"""Litestar's ChannelsPlugin with its Redis pub/sub backend. It keeps nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import ClassVar
from uuid import uuid4

import redis.asyncio
from litestar import Litestar, get
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.redis import RedisChannelsPubSubBackend
from litestar.response import ServerSentEvent

from bench import machine
from bench.peers import Stream, System
from bench.work import Work, chunks_of


def plugin(redis_url: str) -> ChannelsPlugin:
    """The plugin, as its documentation has it."""
    backend = RedisChannelsPubSubBackend(redis=redis.asyncio.from_url(redis_url))
    return ChannelsPlugin(backend=backend, arbitrary_channels_allowed=True)


@get("/stream/{channel:str}", sync_to_thread=False)
def stream(channel: str, channels: ChannelsPlugin) -> ServerSentEvent:
    """One reader."""

    async def follow() -> AsyncIterator[str]:
        async with channels.start_subscription([channel]) as subscriber:
            async for chunk in subscriber.iter_events():
                yield chunk.decode()

    return ServerSentEvent(follow())


def create_app() -> Litestar:
    """Its API."""
    return Litestar([stream], plugins=[plugin(os.environ["REDIS_URL"])])


class Channel(Stream):
    """A channel."""

    def __init__(self, url: str, channel: str, channels: ChannelsPlugin, work: Work) -> None:
        self.url = url
        self._channel = channel
        self._channels = channels
        self._work = work

    async def publish(self) -> None:
        """Chunk by chunk."""
        async for chunk in chunks_of(self._work):
            await self._channels.wait_published(chunk, self._channel)


class Channels(System):
    """Litestar, uvicorn, Redis."""

    name: ClassVar = "Litestar channels"

    def missing(self) -> str | None:
        """It is here."""
        return None

    @property
    def version(self) -> str:
        """Its parts, with their versions."""
        return machine.packages("litestar", "uvicorn", "redis")

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """Its API."""
        serve = ["-m", "uvicorn", "--factory", "bench.peers.channels:create_app", "--port", "0", "--no-access-log"]
        env = {"REDIS_URL": redis_url}
        self.server = machine.start(stack, machine.pinned(machine.SERVER, machine.python(*serve)), env)
        self.url = self.server.wait_for(r"running on (http://[\d.:]+)").group(1)
        self._channels = plugin(redis_url)

    async def stream(self, work: Work) -> Stream:
        """Nothing to prepare. Its backend writes channels in capitals."""
        channel = uuid4().hex
        return Channel(f"{self.url}/stream/{channel}", channel, self._channels, work)
