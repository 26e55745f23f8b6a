"""The load: so many readers of one stream, in a process of its own that does as little as it can for each byte.

`python -m bench.readers '{"url": …, "readers": …, …}'` prints `open` once every reader has the first bytes of its
answer, and at the end one line of JSON. It parses nothing but the mark that stands once in each chunk.
"""

import asyncio
import json
import resource
import sys
import time
from array import array
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.work import DIGITS, MARK

# Readers that connect at the same time: more than that a server's backlog may refuse.
AT_ONCE: Final = 100

# Bytes for one read. Every reader uses the same piece of memory.
BUFFER: Final = bytearray(262_144)


class Load(msgspec.Struct, frozen=True):
    """The stream to read, and until when: each reader has `events`, or `limit_s` have passed since all were open.

    One reader in `sample_every` notes how old each chunk is when it comes; with 0, none.
    """

    url: str
    readers: int
    events: int
    sample_every: int = 1
    limit_s: float = 60
    headers: dict[str, str] = {}


class Tally:
    """The counts and times of all readers together."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.opened = 0
        self.refused = 0
        self.complete = 0
        self.events = 0
        self.size = 0
        self.begun = 0  # times in ns since the epoch
        self.first = 0
        self.last = 0
        self.ages = array("q")  # ns
        self.all_open = asyncio.Event()
        self.all_complete = asyncio.Event()

    def result(self) -> dict[str, Any]:
        """The result, for the process that started this one."""
        ages = sorted(self.ages)
        return {
            "readers": self.load.readers,
            "refused": self.refused,
            "complete": self.complete,
            "events": self.events,
            "bytes": self.size,
            "begun_ns": self.begun,
            "first_ns": self.first,
            "last_ns": self.last,
            "p50_ms": ages[len(ages) // 2] / 1e6 if ages else None,
            "p99_ms": ages[len(ages) * 99 // 100] / 1e6 if ages else None,
            "cpu_s": time.process_time(),
        }


class Reader(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, tally: Tally, request: bytes, samples: bool) -> None:
        self._tally = tally
        self._request = request
        self._samples = samples
        self._events = 0
        self._open = False
        self._cut = b""  # a time that came in two pieces

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        cast(asyncio.WriteTransport, transport).write(self._request)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the next bytes go."""
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came."""
        tally = self._tally
        if not self._open:
            self._open = True
            tally.refused += not BUFFER.startswith(b"HTTP/1.1 200 ")
            tally.opened += 1
            if tally.opened == tally.load.readers:
                tally.all_open.set()
        tally.size += nbytes
        came = BUFFER.count(MARK, 0, nbytes)
        if self._samples and (came or self._cut):
            self._note(nbytes)
        if came:
            now = time.time_ns()
            tally.first = tally.first or now
            tally.last = now
            tally.events += came
            self._events += came
            if self._events == tally.load.events:
                tally.complete += 1
                if tally.complete == tally.load.readers:
                    tally.all_complete.set()

    def _note(self, nbytes: int) -> None:
        now = time.time_ns()
        piece = self._cut + BUFFER[:nbytes] if self._cut else BUFFER
        end = len(self._cut) + nbytes
        self._cut = b""
        at = piece.find(MARK, 0, end)
        while at >= 0:
            if at + DIGITS >= end:
                self._cut = bytes(piece[at:end])
                return
            self._tally.ages.append(now - int(piece[at + 1 : at + 1 + DIGITS]))
            at = piece.find(MARK, at + DIGITS, end)


async def read(load: Load) -> dict[str, Any]:
    """Open all readers, say so, and read until they have everything or the time is up."""
    tally = Tally(load)
    url = urlsplit(load.url)
    host, port = url.hostname, url.port
    assert host is not None
    assert port is not None
    head = {"Host": url.netloc, "Accept": "text/event-stream", **load.headers}
    path = f"{url.path}?{url.query}" if url.query else url.path
    fields = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    request = f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode()
    loop = asyncio.get_running_loop()
    turns = asyncio.Semaphore(AT_ONCE)

    async def connect(number: int) -> asyncio.BaseTransport:
        async with turns:
            samples = load.sample_every > 0 and number % load.sample_every == 0
            made = await loop.create_connection(lambda: Reader(tally, request, samples), host, port)
            return made[0]

    tally.begun = time.time_ns()
    transports = await asyncio.gather(*(connect(number) for number in range(load.readers)))
    async with asyncio.timeout(60):
        await tally.all_open.wait()
    print("open", flush=True)
    try:
        async with asyncio.timeout(load.limit_s):
            await tally.all_complete.wait()
    except TimeoutError:
        pass  # the result says how many are complete
    result = tally.result()
    for transport in transports:
        transport.close()
    return result


def main() -> None:
    """Do what the only argument says."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load = msgspec.json.decode(sys.argv[1], type=Load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(read(load))), flush=True)


if __name__ == "__main__":
    main()
