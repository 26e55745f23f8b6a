"""Readers as there are thousands of: they follow a stream, lose the connection, and come back to whichever API."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from tests.support.waiting import DEADLINE_S

ENDS = frozenset({"done", "failed", "cancelled"})

# Answers after which there is nothing more to be had.
FINAL = frozenset({204, 404, 410})

# How long a reader stays with a connection, in seconds: many leave at any moment, in the middle of an event perhaps.
STAYS_S = [0.05, 0.5, 3, 600, 600]


class Event(NamedTuple):
    """One event of a stream; `seq` is its id, or None where it has none. A comment is one without data."""

    seq: int | None
    event: str
    data: bytes


@dataclass
class Connection:
    """One connection of a reader: the place of its first event among those that were seen, and times of the loop."""

    place: int
    first_at: float | None = None  # when its first event came
    closed_at: float = 0


class Reader:
    """Follows one task to its end, over as many connections as it takes."""

    def __init__(self, ports: list[int], task_id: str, dice: random.Random) -> None:
        self.seen: list[Event] = []
        self.connections: list[Connection] = []
        self.answers: list[int] = []  # other statuses than 200
        self.silences = 0  # connections on which nothing came, no heartbeat either
        self._ports = ports
        self._task_id = task_id
        self._dice = dice

    @property
    def ended(self) -> bool:
        """Whether it has the end."""
        return bool(self.seen) and self.seen[-1].event in ENDS

    async def run(self) -> None:
        """Read until the end, or until there is none to be had: 204, 404, 410."""
        while not self.ended:
            self.connections.append(Connection(len(self.seen)))
            # A reset, a refused connection, a silence: whatever it was, the reader comes back.
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(self._dice.choice(STAYS_S)):
                    await self._connect()
            self.connections[-1].closed_at = asyncio.get_running_loop().time()
            if self.answers and self.answers[-1] in FINAL:
                return
            await asyncio.sleep(self._dice.uniform(0.02, 0.3))  # as `retry` asks for, only sooner

    async def _connect(self) -> None:
        stream, writer = await asyncio.open_connection("127.0.0.1", self._dice.choice(self._ports))
        try:
            # After a gap, entries follow from the first.
            seq = self.seen[-1].seq if self.seen else None
            last = -1 if seq is None else seq
            # HTTP/1.0: the body comes as it is, and ends with the connection.
            request = f"GET /tasks/{self._task_id}/stream HTTP/1.0\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n"
            writer.write(request.encode())
            async with asyncio.timeout(DEADLINE_S):
                status = int((await stream.readuntil(b"\r\n")).split()[1])
                await stream.readuntil(b"\r\n\r\n")
            if status == 200:
                await self._read(stream, self._dice.choice([10, 100, 10_000, 10_000]))
            else:
                self.answers.append(status)
        finally:
            writer.transport.abort()

    async def _read(self, stream: asyncio.StreamReader, most: int) -> None:
        for _ in range(most):
            silence = asyncio.timeout(DEADLINE_S)  # heartbeats come far more often
            try:
                async with silence:
                    event = await next_event(stream)
            except TimeoutError:
                self.silences += silence.expired()
                raise
            if event is None:
                return
            if event.data:
                self.seen.append(event)
                connection = self.connections[-1]
                connection.first_at = connection.first_at or asyncio.get_running_loop().time()
            if self.ended:
                return


async def next_event(stream: asyncio.StreamReader) -> Event | None:
    """The next event, a comment perhaps, or None where the connection ended, in the middle of one perhaps."""
    fields: dict[bytes, bytes] = {}
    while line := await stream.readline():
        if not line.endswith(b"\n"):
            return None  # a browser drops what is not complete, too
        if line.startswith(b":"):
            return Event(None, "message", b"")
        name, _, value = line.rstrip(b"\n").partition(b": ")
        if line != b"\n":
            fields[name] = value
        else:
            seq, name = fields.get(b"id"), fields.get(b"event", b"message")
            return Event(None if seq is None else int(seq), name.decode(), fields.get(b"data", b""))
    return None
