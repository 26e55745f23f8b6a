"""Clients that do with their socket what well-behaved libraries do not."""

import asyncio
import os
import re
import socket
import struct
from typing import Final
from urllib.parse import urlsplit

# Closed with this, a socket sends RST instead of FIN.
AT_ONCE: Final = struct.pack("ii", 1, 0)

# A state in /proc/net/tcp, and the inode there of a connection that no process holds any more.
LISTENING: Final = "0A"
ORPHANED: Final = "0"


class Client:
    """One connection to an API that has asked for a task's stream, or for another target."""

    def __init__(
        self, url: str, task_id: str, *headers: str, buffer: int | None = None, target: str | None = None
    ) -> None:
        address = urlsplit(url)
        self.socket = socket.socket()
        if buffer is not None:  # bytes the kernel takes for a client that reads nothing; before connecting
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect((address.hostname, address.port))
        lines = [f"GET {target or f'/tasks/{task_id}/stream'} HTTP/1.1", f"Host: {address.netloc}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.socket.setblocking(False)
        self.received = b""

    async def read(self) -> bytes:
        """The next bytes; none at the connection's end."""
        piece = await asyncio.get_running_loop().sock_recv(self.socket, 65_536)
        self.received += piece
        return piece

    async def until(self, mark: bytes) -> None:
        """Read until this was received."""
        while mark not in self.received:
            assert await self.read(), f"the connection ended before {mark!r}: {self.received[-200:]!r}"

    async def until_end(self) -> bytes:
        """Read until the connection ends; all that was received."""
        piece = await self.read()
        while piece:
            piece = await self.read()
        return self.received

    @property
    def body(self) -> bytes:
        """The body received, without its transfer encoding."""
        return unchunked(self.received.partition(b"\r\n\r\n")[2])[0]

    @property
    def complete(self) -> bool:
        """Whether the response has its end."""
        return unchunked(self.received.partition(b"\r\n\r\n")[2])[1]

    @property
    def ids(self) -> list[int]:
        """The ids of the events received."""
        return [int(seq) for seq in re.findall(rb"(?m)^id: (\d+)\n", self.received)]

    def close(self) -> None:
        """Leave as programs do."""
        self.socket.close()

    def reset(self) -> None:
        """Leave as crashes do."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.socket.close()


def unchunked(rest: bytes) -> tuple[bytes, bool]:
    """A body without its transfer encoding, as far as it goes; and whether the last chunk is there."""
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if size == b"0":
            return body, rest == b"\r\n"
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body, False


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def accepted(pid: int, url: str) -> int:
    """How many connections of clients a process holds that serves at this address.

    Those to Redis are not among them: their number depends on how many clients came at the same moment.
    """
    local = f":{urlsplit(url).port:04X}"
    with open(f"/proc/{pid}/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[1].endswith(local) and row[3] != LISTENING and row[9] != ORPHANED for row in rows)


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
