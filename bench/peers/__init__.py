"""The systems that are measured, each in a file: how it is started, how a stream is opened and published to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import ClassVar

from bench.work import Work


class Stream(ABC):
    """A stream without chunks yet. `url` is where readers find it."""

    url: str

    @abstractmethod
    async def publish(self) -> None:
        """Publish the work that the stream was opened for; returns when the last chunk was taken."""


class System(ABC):
    """Something that takes chunks at one end and has readers at the other. It ends with the stack it was started in."""

    name: ClassVar[str]

    # Of every request of its clients.
    headers: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def missing(self) -> str | None:
        """The name of a program that would have to be installed, or None."""

    @abstractmethod
    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """Start it, with this Redis, and wait until it serves."""

    @abstractmethod
    async def stream(self, work: Work) -> Stream:
        """Open a stream that this will be published to."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Its parts, with their versions."""
