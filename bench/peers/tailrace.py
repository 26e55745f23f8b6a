"""This project: `uvicorn` and the worker as they are deployed, with everything switched on."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, ClassVar, Final

import httpx
from redis.asyncio import Redis

from bench import machine
from bench.peers import Stream, System
from bench.work import Work
from plugins import entries, keys

# Slots of the worker: as many streams may be written to at once.
SLOTS: Final = "256"


class Published(Stream):
    """A task whose function waits for a word of ours."""

    def __init__(self, url: str, task_id: str, redis: Redis, gate: "Gate") -> None:
        self.url = url
        self.task_id = task_id
        self._redis = redis
        self._gate = gate

    async def begin(self) -> None:
        """Let the function go on."""
        await self._gate.open()

    async def publish(self) -> None:
        """The same; returns when the end stands in the log."""
        await self.begin()
        while True:
            last: Any = await self._redis.lindex(keys.log(self.task_id), -1)
            if last and entries.decode(last).ends:
                return
            await asyncio.sleep(0.002)


class Gate:
    """The port that a function connects to. The function waits for a byte on that connection."""

    def __init__(self) -> None:
        self._arrived: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def listen(self) -> int:
        """Begin to listen; the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._arrived.set_result(writer)

    async def arrived(self) -> None:
        """Wait until the function is there."""
        async with asyncio.timeout(30):
            await asyncio.shield(self._arrived)

    async def open(self) -> None:
        """Let it go on."""
        writer = await self._arrived
        writer.write(b"!")
        writer.close()
        self._server.close()


class Tailrace(System):
    """An API, a worker."""

    name: ClassVar = "tailrace"

    # Of both services.
    settings: Mapping[str, str] = MappingProxyType({"TAILRACE_AUTH": "none"})

    def missing(self) -> str | None:
        """It is here."""
        return None

    @property
    def version(self) -> str:
        """Its parts, with their versions."""
        return machine.packages("litestar", "uvicorn", "redis", "taskiq", "taskiq-redis", "uvloop")

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """The API on a processor of its own, the worker where there is room."""
        env = {"REDIS_URL": redis_url, "FUNCTIONS_PATH": "bench/functions", **self.settings}
        serve = ["-m", "uvicorn", "--factory", "services.api.app:create_app", "--port", "0", "--no-access-log"]
        serve += ["--http", "services.api.http.guard:Guard"]
        work = ["-m", "services.worker", "--workers", "1", "--max-async-tasks", SLOTS]
        self.api = machine.start(stack, machine.pinned(machine.SERVER, machine.python(*serve)), env)
        self.worker = machine.start(stack, machine.python(*work), env)
        self.url = self.api.wait_for(r"running on (http://[\d.:]+)").group(1)
        self.worker.wait_for("Listening started")
        self.redis = Redis.from_url(redis_url)
        stack.push_async_callback(self.redis.aclose)

    async def submit(self, function: str, **given: object) -> str:
        """Start a task; its id."""
        async with httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=30) as client:
            answer = await client.post("/tasks", json={"function": function, "input": given})
            answer.raise_for_status()
            return str(answer.json()["task_id"])

    async def stream(self, work: Work) -> Published:
        """A task that runs already, and has not yielded yet."""
        gate = Gate()
        port = await gate.listen()
        task_id = await self.submit("publish", port=port, chunks=work.chunks, rate=work.rate)
        await gate.arrived()
        return Published(f"{self.url}/tasks/{task_id}/stream", task_id, self.redis, gate)
