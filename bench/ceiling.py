"""A server that does nothing but send: the most that the readers of this benchmark can take."""

import asyncio
from contextlib import AsyncExitStack
from typing import ClassVar, cast

import uvloop

from bench import machine
from bench.peers import Stream, System
from bench.work import Work, chunks_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"

# Frames in one piece, when they come in a burst.
GROUP = 256


class Server(asyncio.Protocol):
    """One reader. The process publishes when a reader asks for it: `GET /CHUNKS/RATE`."""

    readers: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        """Forget it."""
        self.readers.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        """A reader, or the publisher."""
        path = data.split(b" ", 2)[1].decode()
        self._transport.write(HEAD)
        if path == "/stream":
            self.readers.add(self._transport)
        else:
            _, chunks, rate = path.split("/")
            self._publishing = asyncio.create_task(self._publish(Work(int(chunks), float(rate))))

    async def _publish(self, work: Work) -> None:
        group: list[str] = []
        async for chunk in chunks_of(work):
            group.append(f"data: {chunk}\n\n")
            if work.rate or len(group) == GROUP:
                self._send(group)
                await asyncio.sleep(0)
        self._send(group)
        self._transport.close()

    def _send(self, group: list[str]) -> None:
        piece = "".join(group).encode()
        group.clear()
        for reader in self.readers:
            reader.write(piece)


class Sent(Stream):
    """The stream that the server sends to every reader."""

    def __init__(self, url: str, port: int, work: Work) -> None:
        self.url = f"{url}/stream"
        self._port = port
        self._work = work

    async def publish(self) -> None:
        """Tell it to."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET /{self._work.chunks}/{self._work.rate} HTTP/1.1\r\n\r\n".encode())
        await reader.read()
        writer.close()


class Ceiling(System):
    """A process that holds sockets."""

    name: ClassVar = "(the readers' ceiling)"

    def missing(self) -> str | None:
        """It is here."""
        return None

    @property
    def version(self) -> str:
        """Its parts, with their versions."""
        return machine.packages("uvloop")

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """The process."""
        self.server = machine.start(stack, machine.pinned(machine.SERVER, machine.python("-m", "bench.ceiling")))
        self.url = self.server.wait_for(r"running on (http://[\d.:]+)").group(1)

    async def stream(self, work: Work) -> Stream:
        """The only one there is."""
        return Sent(self.url, int(self.url.rpartition(":")[2]), work)


async def serve() -> None:
    """For ever."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4_096)
    print(f"running on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
