"""Publishing by HTTP, over one connection that stays open: request, answer, request, answer."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import urlsplit


class Poster:
    """Posts to one address."""

    def __init__(
        self, url: str, media_type: str, accept: str = "text/json", headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._url = urlsplit(url)
        fields = {"Host": self._url.netloc, "Content-Type": media_type, "Accept": accept, **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    async def __aenter__(self) -> Self:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close."""
        self._writer.close()

    async def follow(self, path: str, mark: bytes, body: bytes | None = None) -> None:
        """Get a stream (or post this for one), until the mark stands in it. The rest is for `rest`."""
        self._send("GET" if body is None else "POST", path, body or b"")
        async with asyncio.timeout(30):
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head, head
            await self._reader.readuntil(mark)

    async def rest(self) -> None:
        """Read the rest of a stream."""
        await self._reader.readuntil(b"0\r\n\r\n")

    def _send(self, method: str, path: str, body: bytes) -> None:
        request = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(request.encode() + body)

    async def post(self, body: bytes, method: str = "POST", path: str = "") -> bytes:
        """Send this, and wait for the answer; its body."""
        self._send(method, path or self._url.path, body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        answer = b""
        if b"content-length" in fields:
            answer = await self._reader.readexactly(int(fields[b"content-length"]))
        elif fields.get(b"transfer-encoding") == b"chunked":
            answer = await self._reader.readuntil(b"0\r\n\r\n")
        assert 200 <= status < 300, head
        return answer
