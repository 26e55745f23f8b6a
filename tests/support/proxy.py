"""A network that lies: a TCP proxy between processes and Redis that cuts, freezes, delays, and loses replies.

It runs in the test's own event loop, so a test that waits for a process that talks through it waits in a thread.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

# Closed with this, a socket sends RST instead of FIN, and forgets what it has not yet sent.
AT_ONCE: Final = struct.pack("ii", 1, 0)


class Connection:
    """One connection of a client, and the one to Redis behind it."""

    def __init__(self) -> None:
        self.name = b""  # the first bytes it sent: the client's name is among them
        self.pubsub = False  # has sent SUBSCRIBE
        self.flows = asyncio.Event()
        self.loses = False  # the next reply does not arrive
        self.recent = b""
        self._ends: list[asyncio.StreamWriter] = []
        self._is_cut = False

    def add(self, end: asyncio.StreamWriter) -> None:
        """Take this end over. It is reset if the connection was cut before."""
        self._ends.append(end)
        if self._is_cut:
            self.cut()

    def cut(self) -> None:
        """Reset both ends."""
        self._is_cut = True
        self.flows.set()
        for end in self._ends:
            if not end.transport.is_closing():
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                end.transport.abort()

    def close(self) -> None:
        """Close both ends."""
        for end in self._ends:
            end.close()


Which = Callable[[Connection], bool]


def subscribed(connection: Connection) -> bool:
    """Selects the connections that have sent SUBSCRIBE: `proxy.cut(subscribed)`."""
    return connection.pubsub


def named(name: bytes) -> Which:
    """Selects the connections whose client calls itself so, or begins with it: `proxy.cut(named(b"tailrace-hub"))`."""
    return lambda connection: name in connection.name


class Proxy:
    """Passes everything on, until it is told otherwise."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1", path: str = "/0") -> None:
        self.connections: set[Connection] = set()
        self.delay_s = 0.0  # each way, for whatever is read at once
        self.lost = 0  # replies that did not arrive
        self.retell: Callable[[bytes], bytes] = bytes  # what arrives in place of a reply
        self._target = (target_host, target_port)
        self._path = path  # of the URL: the database
        self._frozen = False
        self._losses, self._after = 0, b""
        self._held_after = b""
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # Not asyncio's server: if it is closed between the accept and the first callback, it leaves the socket open.
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}{self._path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self.cut()
        if self._serving:
            await asyncio.wait(self._serving)

    def retarget(self, port: int) -> None:
        """New connections go there; old ones stay where they are."""
        self._target = (self._target[0], port)

    def cut(self, which: Which | None = None) -> int:
        """Reset all connections, or these; how many."""
        cut = self._those(which)
        for connection in cut:
            connection.cut()
        return len(cut)

    def freeze(self, which: Which | None = None) -> int:
        """Forward nothing more, on all connections and those to come, or on these; how many."""
        frozen = self._those(which)
        for connection in frozen:
            connection.flows.clear()
        self._frozen = self._frozen or which is None
        return len(frozen)

    def thaw(self) -> None:
        """Forward again, what was held up first."""
        self._frozen = False
        for connection in self.connections:
            connection.flows.set()

    def drop_replies(self, count: int, after: bytes) -> None:
        """Let the next so many requests with these bytes reach Redis, and cut the connection when the reply comes."""
        self._losses, self._after = count, after

    def hold_reply(self, after: bytes) -> None:
        """Let the next request with these bytes reach Redis, and freeze its connection before the reply comes."""
        self._held_after = after

    def _those(self, which: Which | None) -> list[Connection]:
        return [connection for connection in self.connections if which is None or which(connection)]

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the client is gone already
            return
        client.setblocking(False)
        connection = Connection()
        self.connections.add(connection)  # at once, so that it can be cut
        if not self._frozen:
            connection.flows.set()
        serving = asyncio.create_task(self._serve(connection, client))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            client, to_client = await asyncio.open_connection(sock=accepted)
            connection.add(to_client)
            await connection.flows.wait()
            with suppress(OSError):  # no server listens there
                redis, to_redis = await asyncio.open_connection(*self._target)
                connection.add(to_redis)
                there = asyncio.create_task(self._pump(connection, client, to_redis, self._heard))
                back = asyncio.create_task(self._pump(connection, redis, to_client, self._answered))
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
                await asyncio.wait([there, back])
        finally:
            self.connections.discard(connection)
            connection.close()

    async def _pump(
        self,
        connection: Connection,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        note: Callable[[Connection, bytes], bytes],
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await connection.flows.wait()
                sink.write(note(connection, piece))
                await sink.drain()

    def _heard(self, connection: Connection, piece: bytes) -> bytes:
        if len(connection.name) < 1_000:
            connection.name += piece[:1_000]
        connection.pubsub = connection.pubsub or b"SUBSCRIBE\r\n" in piece
        seen = connection.recent + piece
        if self._losses and self._after in seen:
            self._losses -= 1
            connection.loses = True
            seen = b""
        if self._held_after and self._held_after in seen:
            self._held_after = b""
            connection.flows.clear()
        connection.recent = seen[max(0, len(seen) - len(self._after) + 1) :]  # the bytes may come in two pieces
        return piece

    def _answered(self, connection: Connection, piece: bytes) -> bytes:
        if connection.loses:
            self.lost += 1
            connection.cut()
            raise ConnectionResetError
        return self.retell(piece)
