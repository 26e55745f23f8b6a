"""Simulated processes: the real API behind its HTTP interface, and the real worker."""

import asyncio
import inspect
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Litestar
from redis.exceptions import RedisError

from plugins import Context, entries, function, keys
from plugins.function import policy
from services.api.app import create_app, lifespan
from services.api.redis_client import Pools, pools_of
from services.api.settings import Settings as ApiSettings
from services.worker.attempt.attempt import Attempt
from services.worker.attempt.lease import Lease
from services.worker.process import WRITE_S, Worker
from services.worker.queue.broker import Queue
from services.worker.queue.messages import Delivery
from services.worker.queue.slots import Slots
from services.worker.redis_client.pool import connect
from services.worker.registry.registry import Plugin, Registry, plugin_of
from services.worker.settings import Settings as WorkerSettings
from tests.simulation.clock import PROCESS, Process
from tests.simulation.simulator import Simulator

# No process connects to it.
URL: Final = "redis://simulated:6379/0"

# Probes of pub/sub connections would be most of the steps of a history, and no history breaks one silently.
API_SETTINGS: Final = ApiSettings(redis_url=URL, probe_s=3_600)
WORKER_SETTINGS: Final = WorkerSettings(redis_url=URL, takeover_s=15)

# A function's body: what it does between its chunks.
Body = Callable[[Context], AsyncIterator[Any]]


class Answer(NamedTuple):
    """An answer of an API."""

    status: int
    json: Any


class ApiProcess(Process):
    """An API. Requests reach it through its ASGI application."""

    _unused: Final[list[Litestar]] = []

    def __init__(self, simulator: Simulator, name: str, skew: float = 0) -> None:
        super().__init__(name, skew)
        self._simulator = simulator
        # To make an application takes long, and a dead process does not use its own any more.
        self.app = self._unused.pop() if self._unused else create_app(API_SETTINGS, _pools)
        simulator.hear_logs()  # the application has set how it logs
        simulator.spawn(self, self._live())

    def pools(self, url: str, connections: int) -> Pools:
        """The pools of the product, with simulated connections."""
        pools = pools_of(url, connections)
        return Pools(*(self._simulator.simulated(self, pool) for pool in pools))

    async def _live(self) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            async with lifespan(self.app):
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                await asyncio.get_running_loop().create_future()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if not self.dead:
                self.ended()

    def ended(self) -> None:
        """Leave the application to another process: none of this one's code runs any more."""
        self._unused.append(self.app)

    def request(
        self, method: str, path: str, *, key: str | None = None, headers: dict[str, str] | None = None, **body: Any
    ) -> "asyncio.Task[Answer]":
        """Send a request. The task has the answer; it never ends if the process dies."""
        sent = {"host": "localhost", "content-type": "application/json", **(headers or {})}
        if key is not None:
            sent["idempotency-key"] = key
        return self._simulator.spawn(
            self, self._request(method, path, sent, json.dumps(body).encode() if body else b"")
        )

    def stream(self, task_id: str, last: int | None, received: Callable[[bytes], None]) -> "asyncio.Task[int]":
        """GET /tasks/{id}/stream behind the entry `last`. `received` is called with each piece of the body.

        The task has the status when the response has ended; it never ends if the process dies.
        """
        headers = {"host": "localhost", "accept": "text/event-stream"}
        if last is not None:
            headers["last-event-id"] = str(last)
        return self._simulator.spawn(self, self._stream(f"/tasks/{task_id}/stream", headers, received))

    async def _stream(self, path: str, headers: dict[str, str], received: Callable[[bytes], None]) -> int:
        status, complete = 0, asyncio.Event()

        async def receive() -> Any:
            await complete.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            received(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                complete.set()

        await self.app(_scope("GET", path, headers), receive, send)
        return status

    async def _request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        status, received, unsent = 0, b"", [body]

        async def receive() -> Any:
            if unsent:
                return {"type": "http.request", "body": unsent.pop(), "more_body": False}
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, received
            status = message.get("status", status)
            received += message.get("body", b"")

        await self.app(_scope(method, path, headers), receive, send)
        return Answer(status, json.loads(received) if received else None)

    def submit(self, name: str, *, key: str | None = None, **given: Any) -> "asyncio.Task[Answer]":
        """POST /tasks."""
        return self.request("POST", "/tasks", key=key, function=name, input=given)

    def cancel(self, task_id: str) -> "asyncio.Task[Answer]":
        """DELETE /tasks/{id}."""
        return self.request("DELETE", f"/tasks/{task_id}")


def _scope(method: str, path: str, headers: dict[str, str]) -> Any:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("simulated", 1),
        "server": ("simulated", 80),
        "state": {},
    }


def _pools(url: str, connections: int) -> Pools:
    process = PROCESS.get()
    assert isinstance(process, ApiProcess)
    return process.pools(url, connections)


class WorkerProcess(Process):
    """A worker. It reads the queue as Taskiq does."""

    def __init__(self, system: "System", name: str, slots: int, skew: float, owner_slots: int | None) -> None:
        super().__init__(name, skew)
        self._system = system
        self._settings = WORKER_SETTINGS.model_copy(update={"owner_slots": owner_slots})
        self._simulator = system.simulator
        self._slots = slots
        self.worker: Worker | None = None
        self._leases: dict[tuple[str, int], tuple[Lease, Attempt]] = {}
        simulator, url = system.simulator, URL
        simulator.spawn(self, self._live(url))

    async def _live(self, url: str) -> None:
        settings, simulator = self._settings, self._simulator
        self.queue = Queue(url, settings.abandoned_s, settings.takeover_s, Slots(self._slots))
        simulator.simulated(self, self.queue.connection_pool)
        redis = connect(url)
        simulator.simulated(self, redis.connection_pool)
        registry = Registry()
        registry.plugins.update(self._system.plugins)
        self.worker = Worker(settings, self.queue, redis, registry)
        self.worker.name = self.name
        try:
            await self.worker.start()
            await self.queue.startup()
        except RedisError as error:  # Taskiq's process exits, and its manager starts another
            simulator.tell(self, f"exits at its start: {error}")
            return self._exit()
        free = asyncio.Semaphore(self._slots)
        await free.acquire()
        async for delivery in self.queue.listen():
            running = asyncio.create_task(self._run(delivery))
            running.add_done_callback(lambda _: free.release())
            await free.acquire()

    async def _run(self, delivery: Delivery) -> None:
        assert self.worker is not None
        try:
            await self.worker.run(delivery)
        finally:
            self.queue.slots.release()

    @property
    def most(self) -> int:
        """How many tasks of the one owner may run here at once."""
        percent = self._settings.owner_slots
        return self._slots if percent is None else max(1, self._slots * percent // 100)

    def in_touch(self, task_id: str, attempt: int) -> bool:
        """Whether its lease of this attempt has not expired, as far as it knows, and it waits for the function."""
        lease, performed = self._leases.get((task_id, attempt), (None, None))
        if lease is None or performed is None:
            return False
        return lease._until > self._simulator.clock.now and not performed._abandoned.done()

    def begins(self, task_id: str, attempt: int) -> None:
        """Remember the lease of this attempt, whose function begins."""
        if self.worker is not None:
            for lease in self.worker.leases._leases:
                if (lease.claim.task_id, lease.claim.attempt) == (task_id, attempt):
                    self._leases[task_id, attempt] = (lease, self.worker.running[task_id])

    def stop(self) -> None:
        """SIGTERM: drain, stop, leave the queue, exit."""
        self._simulator.tell(self, "is told to stop")
        self._simulator.spawn(self, self._stop())

    async def _stop(self) -> None:
        settings = self._settings
        # The exit is forced then.
        bound_s = settings.drain_s + settings.clean_up_s + WRITE_S + settings.exit_s
        asyncio.get_running_loop().call_later(bound_s, self._exit)
        if self.worker is not None:
            await self.worker.drain()
            await self.worker.stop()
        await self.queue.shutdown()
        self._exit()

    def _exit(self) -> None:
        if not self.dead:
            self._simulator.die(self)


class Run(NamedTuple):
    """One run of a function: its process, and what it runs for."""

    process: Process
    task_id: str
    attempt: int
    function: str


class System:
    """APIs, workers and functions of one schedule."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.server = simulator.server
        self.plugins: dict[str, Plugin] = {}
        self.processes: list[Process] = []
        self.running: list[Run] = []  # functions
        self.begun: Counter[tuple[str, int]] = Counter()  # how often each attempt's function began
        self.chunks: dict[str, int] = {}  # how many each function yields
        self.most: Counter[str] = Counter()  # how many of each function have run at once
        self.on_begin: Callable[[Run], None] = lambda run: None

    # Functions

    def declare(self, name: str, chunks: int = 3, *, body: Body | None = None, **options: Any) -> None:
        """Declare a function that yields so many chunks, a piece of work before each, or has this body."""
        does = body or self.counting(chunks)
        self.chunks[name] = chunks

        async def runs(context: Context) -> AsyncIterator[Any]:
            process = PROCESS.get()
            assert process is not None
            run = Run(process, context.task_id, context.attempt, name)
            self.running.append(run)
            alive = [each for each in self.running if each.function == name and not each.process.dead]
            self.most[name] = max(self.most[name], len(alive))
            if isinstance(process, WorkerProcess):
                process.begins(run.task_id, run.attempt)
            self.begun[run.task_id, run.attempt] += 1
            self.simulator.tell(process, f"function of {run.task_id[:4]} begins, attempt {run.attempt}")
            self.on_begin(run)
            try:
                async for chunk in does(context):
                    yield chunk
            finally:
                self.running.remove(run)
                self.simulator.tell(process, f"function of {run.task_id[:4]} is over, attempt {run.attempt}")

        attached = policy(function(name=name, **options)(runs))
        assert attached is not None
        self.plugins[name] = msgspec.structs.replace(
            _template(),
            call=runs,
            policy=attached,
            declaration=msgspec.structs.replace(
                _template().declaration,
                name=name,
                **{
                    field: getattr(attached, field)
                    for field in ("timeout", "retries", "resumable", "concurrency", "concurrency_key", "rate")
                },
            ),
        )

    def counting(self, chunks: int) -> Body:
        """A body that yields 0, 1, 2, …, and goes on where an earlier attempt has left off."""

        async def count(context: Context) -> AsyncIterator[int]:
            for number in range(len(context.yielded), chunks):
                await self.simulator.work(f"works at {number} for {context.task_id[:4]}:{context.attempt}")
                yield number

        return count

    def endless(self) -> Body:
        """A body that works for ever, and yields nothing."""

        async def toil(context: Context) -> AsyncIterator[int]:
            while True:
                await self.simulator.work(f"works for {context.task_id[:4]}:{context.attempt}")
            yield 0

        return toil

    # Processes

    def api(self, name: str, skew: float = 0) -> ApiProcess:
        """Start an API."""
        api = ApiProcess(self.simulator, name, skew)
        self.processes.append(api)
        return api

    def worker(self, name: str, slots: int = 4, skew: float = 0, owner_slots: int | None = None) -> WorkerProcess:
        """Start a worker with all functions that are declared so far."""
        worker = WorkerProcess(self, name, slots, skew, owner_slots)
        self.processes.append(worker)
        return worker

    # A user's view

    async def submitted(self, api: ApiProcess, name: str, *, key: str | None = None) -> str:
        """Submit a task while nothing else happens; its id."""
        request = api.submit(name, key=key)
        await self.simulator.go(api)
        assert request.done(), "no answer"
        assert request.result().status == 202, request.result()
        self.simulator.advance(0.002)
        return str(request.result().json["task_id"])

    async def told(self, api: ApiProcess, task_id: str) -> Any:
        """The answer to GET /tasks/{id}."""
        request = api.request("GET", f"/tasks/{task_id}")
        await self.simulator.go(api)
        assert request.done(), "no answer"
        return request.result().json

    def log(self, task_id: str) -> list[entries.Entry]:
        """The log of a task, as Redis has it."""
        return [entries.decode(line) for line in self.server.call("LRANGE", keys.log(task_id), 0, -1)]

    def end(self, task_id: str) -> str | None:
        """The end in a log: its event, and its code if it has one."""
        log = self.log(task_id)
        if not log or not log[-1].ends:
            return None
        code = json.loads(bytes(log[-1].data)).get("code")
        return f"{log[-1].event}: {code}" if code else log[-1].event

    def field(self, task_id: str, name: str) -> str | None:
        """A field of a task's metadata."""
        value = self.server.call("HGET", keys.metadata(task_id), name)
        return None if value is None else value.decode()

    def view(self, task_id: str) -> list[Any]:
        """The chunks of a reader that drops those which an attempt does not keep."""
        chunks: list[Any] = []
        for entry in self.log(task_id):
            data = json.loads(bytes(entry.data))
            if entry.event == "chunk":
                chunks.append(data)
            elif entry.event == "attempt" and not data["keeps"]:
                chunks = []
        return chunks

    def runs(self, task_id: str) -> list[Run]:
        """Where its function runs, in living processes."""
        return [run for run in self.running if run.task_id == task_id and not run.process.dead]


_made: list[Plugin] = []


def _template() -> Plugin:
    """A plugin whose only parameter is the context."""
    if not _made:

        async def template(context: Context) -> AsyncIterator[Any]:
            yield None

        attached = policy(function(template))
        assert attached is not None
        _made.append(plugin_of(template, attached, None))
    return _made[0]


Schedule = Callable[[System], Coroutine[Any, Any, None]]


def scheduled(schedule: Schedule) -> Callable[[Simulator], None]:
    """A test of this schedule."""

    @wraps(schedule)
    def test(simulator: Simulator) -> None:
        simulator.run(lambda: schedule(System(simulator)))

    test.__signature__ = inspect.signature(_simulated)  # type: ignore[attr-defined]  # for pytest's fixtures
    return test


def _simulated(simulator: Simulator) -> None: ...
