"""A connection on which a test sends what no client of a library would."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.support.waiting import DEADLINE_S

# The head of an answer, as far as tests ask for it.
HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) .*?\r\n\r\n", re.DOTALL)


class Connection:
    """Bytes to an API, and all bytes that it has sent back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = b""

    async def send(self, data: bytes) -> None:
        """Send these bytes.

        Raises:
            OSError: the API has hung up.
        """
        self._writer.write(data)
        await self._writer.drain()

    async def until(self, mark: bytes) -> None:
        """Read until this was received."""
        await self._read_until(lambda: mark in self.received, repr(mark))

    async def answers(self, many: int) -> None:
        """Read until the bodies of so many answers in all have begun."""
        await self._read_until(
            lambda: len(statuses(self.received)) >= many and not self.received.endswith(b"\r\n\r\n"), f"{many} answers"
        )

    async def _read_until(self, enough: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not enough():
                piece = await self._reader.read(65_536)
                assert piece, f"the connection ended before {what}: {self.received[-200:]!r}"
                self.received += piece

    async def until_end(self) -> bytes:
        """Read until the API hangs up, in whatever way; all that was received."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while piece := await self._reader.read(65_536):
                    self.received += piece
        except ConnectionError:
            pass
        return self.received

    def leave(self) -> None:
        """Hang up."""
        self._writer.close()


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Connection]:
    """A connection to the API at this address, until the end of the block."""
    address = urlsplit(url)
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def statuses(received: bytes) -> list[int]:
    """The status of each answer."""
    return [int(status) for status in HEAD.findall(received)]


def refused(received: bytes) -> tuple[int, str]:
    """The status and the kind of the problem that is the last of these bytes, and the end of its connection."""
    *_, head = HEAD.finditer(received)
    fields = head[0].lower().split(b"\r\n")
    body = received[head.end() :]
    assert b"content-type: application/problem+json" in fields
    assert b"content-length: %d" % len(body) in fields
    assert b"connection: close" in fields
    problem: Any = msgspec.json.decode(body)
    assert problem["status"] == int(head[1])
    assert problem["title"]
    assert problem["detail"]
    return problem["status"], problem["type"].removeprefix("urn:tailrace:problem:")
