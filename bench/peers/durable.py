"""`@durable-streams/server`, the reference server of that protocol, in memory.

`npm install --prefix bench/node @durable-streams/server` brings it.
"""

import json
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar, Final
from uuid import uuid4

from bench import machine
from bench.peers import Stream, System
from bench.peers.http import Poster
from bench.work import Work, chunks_of

FOLDER: Final = Path(__file__).parent.parent / "node"
PACKAGE: Final = FOLDER / "node_modules" / "@durable-streams" / "server"

SERVE: Final = """
import { DurableStreamTestServer } from "%s";
const server = new DurableStreamTestServer({ port: 0, host: "127.0.0.1" });
console.log("running on", await server.start());
"""

# Chunks in one request, where they do not come at a pace: as many as ours has in one append.
GROUP: Final = 256


class Appended(Stream):
    """A stream of JSON values."""

    def __init__(self, url: str, work: Work, group: int) -> None:
        self.url = f"{url}?offset=-1&live=sse"
        self._publish = url
        self._work = work
        self._group = group

    async def publish(self) -> None:
        """Groups of values, or one at a time where they come at a pace."""
        group: list[str] = []
        async with Poster(self._publish, "application/json") as poster:
            async for chunk in chunks_of(self._work):
                group.append(chunk)
                if self._work.rate or len(group) == self._group:
                    await poster.post(json.dumps(group).encode())
                    group = []
            if group:
                await poster.post(json.dumps(group).encode())


class DurableStreams(System):
    """Node.js."""

    name: ClassVar = "durable-streams"
    group: ClassVar = GROUP

    def missing(self) -> str | None:
        """A package of npm's."""
        return (
            None
            if shutil.which("node") and PACKAGE.exists()
            else "`npm install --prefix bench/node @durable-streams/server`"
        )

    @property
    def version(self) -> str:
        """Its parts, with their versions."""
        return f"@durable-streams/server {json.loads((PACKAGE / 'package.json').read_text())['version']}"

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """One process; it needs no Redis."""
        script = SERVE % (PACKAGE / "dist" / "index.js").as_uri()
        command = ["node", "--input-type=module", "-e", script]
        self.server = machine.start(stack, machine.pinned(machine.SERVER, command))
        self.url = self.server.wait_for(r"running on (http://[\d.:]+)").group(1)

    async def stream(self, work: Work) -> Stream:
        """Created first, as the protocol has it."""
        url = f"{self.url}/v1/stream/{uuid4().hex}"
        async with Poster(url, "application/json") as poster:
            await poster.post(b"", "PUT")
        return Appended(url, work, self.group)


class DurableStreamsOneByOne(DurableStreams):
    """The same, by a publisher that does not group: a request for each chunk."""

    name: ClassVar = "durable-streams, one by one"
    group: ClassVar = 1
