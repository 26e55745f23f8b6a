"""The faults of a storm, by a seeded schedule: kills, restarts, pauses, cut connections, lost writes."""

import asyncio
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.processes import FUNCTIONS, GUARD, Process, free_port
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import QUICK
from tests.support.workers import freeze, thaw

# Sooner than by default, so that a minute holds many deaths. A lease outlasts what a Redis loses, and its restart.
LEASE_S: Final = 3
ABANDONED_S: Final = 5
HASTY: Final = QUICK | {
    "TAILRACE_LEASE_S": str(LEASE_S),
    "TAILRACE_PROBE_S": "1",
    "TAILRACE_DRAIN_S": "0.5",
    "TAILRACE_UNCLAIMED_S": "10",
    "TAILRACE_ABANDONED_S": str(ABANDONED_S),
}

# Longer than a lease, in seconds: a worker that wakes up then no longer owns the tasks that it ran.
FROZEN_S: Final = LEASE_S + 1

# Pauses of everything, in seconds; and how much later than the APIs the workers may wake up, less than a lease.
PAUSES_S: Final = [FROZEN_S, FROZEN_S, FROZEN_S, 8, 20]
LATE_S: Final = 1

# Seconds of writes that a Redis loses.
LOST_S: Final = (0.5, 1.5)

# Log events that no process may write, whatever happens to the others.
NEVER_SAID: Final = (
    "background task crashed",
    "never retrieved",
    "tail failed",
    "attempt crashed",
    "function did not stop",
    "Exception in ASGI application",
)

# … nor this, unless Redis has lost writes.
SAID_OF_LOSSES: Final = "log changed unexpectedly"

# … nor this, unless Redis is silent while it stops, which takes so many seconds.
SAID_OF_PAUSES: Final = "shutdown timed out"
STOPS_S: Final = 8

# A log line's time, and the task that it is about.
LINE: Final = re.compile(r"^(\S+Z) .*\btask_id=(\w+)")

# Seconds within which a worker that lives learns that recovery has taken a task from it: it renews more often.
LEARNS_S: Final = 2

Fault = Callable[[random.Random], Awaitable[None]]


class Loss(NamedTuple):
    """Redis came back as it was at the first of these times (of the loop), and was killed at the second one."""

    since: float
    until: float


class System:
    """A Redis that keeps what it acknowledged, or `forgets`, two APIs and three workers, each of which may die."""

    def __init__(self, redis: EmbeddedRedis, *, forgets: bool) -> None:
        self.redis = redis
        self.forgets = forgets
        self.ports = [free_port(), free_port()]
        self.faults: Counter[str] = Counter()
        self.losses: list[Loss] = []
        self.lost_bytes = 0
        # Held by a loss from the first write that it takes until it is over. Whatever is seen under this lock stays.
        self.lasting = asyncio.Lock()
        self._frozen: list[Process] = []  # workers that were frozen alone, so that they may have lost their tasks
        self._env = {"REDIS_URL": redis.url, "FUNCTIONS_PATH": FUNCTIONS, **HASTY}
        self._apis: list[Process] = []
        self._workers: list[Process] = []
        self._leaving: dict[Process, float] = {}  # workers that were told to stop, and when
        self._pauses: list[tuple[float, float]] = []
        self._started: list[Process] = []

    async def start(self) -> None:
        """Start it all, and wait until it works."""
        self._apis = list(await asyncio.gather(*(asyncio.to_thread(self._api, port) for port in self.ports)))
        self._workers = list(await asyncio.gather(*(asyncio.to_thread(self._worker) for _ in range(3))))

    def stop(self) -> None:
        """End it all, at once."""
        for process in self._started:
            process.kill()
        for process in [*self._apis, *self._workers, *self._leaving]:
            print(*process.lines[-200:], sep="")  # shown where the test fails

    async def assert_sound(self) -> None:
        """Every process that was told to stop has exited with 0. No process has crashed, or logged `NEVER_SAID`."""
        for process in self._leaving:
            assert await asyncio.to_thread(process.wait) == 0, process.output
        for process in self._started:
            never = NEVER_SAID if self.losses else (*NEVER_SAID, SAID_OF_LOSSES)
            never = never if self._hindered(process) else (*never, SAID_OF_PAUSES)
            said = [words for words in never if words in process.output]
            assert not said, f"{said}:\n{process.output}"
            assert process.output.count("Started process worker-0") <= 1, f"restarted:\n{process.output}"

    def _hindered(self, process: Process) -> bool:
        """Whether Redis was silent while this process stopped: what it had to write could not be written."""
        told = self._leaving.get(process)
        return told is not None and any(since - STOPS_S <= told <= until for since, until in self._pauses)

    def taken_from_the_living(self) -> list[str]:
        """The tasks that recovery took for lost though their workers lived: log lines, of the API and of the worker."""
        taken = [
            (*told, line)
            for process in self._started
            for line in process.lines
            if ("lease expired" in line or "code=worker_lost" in line) and (told := told_of(line))
        ]
        living = [process for process in self._started if process not in self._frozen]
        learned = [
            (*told, line)
            for process in living
            for line in process.lines
            if ("lease lost" in line or "append refused" in line) and (told := told_of(line))
        ]
        at_once, soon = timedelta(), timedelta(seconds=LEARNS_S)
        return [
            f"{line}{other}"
            for at, task_id, line in taken
            for learned_at, of, other in learned
            if task_id == of and at_once <= learned_at - at <= soon
        ]

    @property
    def kinds(self) -> list[dict[str, Fault]]:
        """Faults by name, in groups that may happen at the same time."""
        of_redis: dict[str, Fault] = {
            "redis killed": self._kill_redis,
            "redis, apis paused": self._pause,
            "redis, apis, workers paused": self._pause_with_workers,
        }
        return [
            {
                "worker killed": self._kill_worker,
                "worker told to stop": self._stop_worker,
                "worker frozen": self._freeze_worker,
            },
            {"api killed": self._kill_api, "api told to stop": self._stop_api},
            {"pub/sub connections cut": self._cut_pubsub},
            {"redis lost a second": self._lose} if self.forgets else of_redis,
        ]

    async def storm(self, kinds: dict[str, Fault], dice: random.Random, until: float) -> None:
        """One of these faults after another, until that time (of the loop)."""
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await asyncio.sleep(dice.uniform(0.5, 8))
            name = dice.choice(list(kinds))
            await kinds[name](dice)
            self.faults[name] += 1

    def _api(self, port: int) -> Process:
        command = ["uvicorn", "--factory", "services.api.app:create_app", "--http", GUARD, "--port", str(port)]
        command += ["--no-access-log"]
        return self._process(command, "running on")

    def _worker(self) -> Process:
        command = ["services.worker", "--workers", "1"]
        return self._process(command, "Listening started")

    def _process(self, command: list[str], ready: str) -> Process:
        process = Process([sys.executable, "-m", *command], self._env)
        self._started.append(process)  # before it is waited for: a test that fails meanwhile must end it, too
        process.wait_for(ready)
        return process

    async def _kill_worker(self, dice: random.Random) -> None:
        place = dice.randrange(len(self._workers))
        await asyncio.to_thread(self._workers[place].kill)
        self._workers[place] = await asyncio.to_thread(self._worker)

    async def _stop_worker(self, dice: random.Random) -> None:
        place = dice.randrange(len(self._workers))
        self._workers[place].signal(signal.SIGTERM)
        self._leaving[self._workers[place]] = asyncio.get_running_loop().time()
        self._workers[place] = await asyncio.to_thread(self._worker)

    async def _freeze_worker(self, dice: random.Random) -> None:
        worker = self._workers[dice.randrange(len(self._workers))]
        self._frozen.append(worker)
        freeze(worker)
        await asyncio.sleep(FROZEN_S)
        thaw(worker)

    async def _kill_api(self, dice: random.Random) -> None:
        place = dice.randrange(len(self._apis))
        await asyncio.to_thread(self._apis[place].kill)
        self._apis[place] = await asyncio.to_thread(self._api, self.ports[place])

    async def _stop_api(self, dice: random.Random) -> None:
        place = dice.randrange(len(self._apis))
        # uvicorn ends with the signal that ended it, once it has shut down.
        assert await asyncio.to_thread(self._apis[place].stop) == -signal.SIGTERM, self._apis[place].output
        self._apis[place] = await asyncio.to_thread(self._api, self.ports[place])

    async def _cut_pubsub(self, _: random.Random) -> None:
        try:
            async with Redis.from_url(self.redis.url) as redis:
                await redis.client_kill_filter(_type="pubsub")
        except RedisError:
            pass  # it is not there at this moment: nothing to cut

    async def _pause(self, dice: random.Random) -> None:
        await self._freeze_all(dice, [])

    async def _pause_with_workers(self, dice: random.Random) -> None:
        await self._freeze_all(dice, list(self._workers))

    async def _freeze_all(self, dice: random.Random, workers: list[Process]) -> None:
        """Freeze Redis, all APIs and these workers. Redis and the APIs wake up first."""
        assert self.redis.process is not None
        first = [*self._apis, self.redis.process]
        pause_s, late_s = dice.choice(PAUSES_S), dice.uniform(0, LATE_S)
        since = asyncio.get_running_loop().time()
        for process in [*first, *workers]:
            with suppress(ProcessLookupError):  # it was killed just now
                freeze(process)
        await asyncio.sleep(pause_s)
        for process in first:
            with suppress(ProcessLookupError):
                thaw(process)
        self._pauses.append((since, asyncio.get_running_loop().time()))
        await asyncio.sleep(late_s)
        for process in workers:
            with suppress(ProcessLookupError):
                thaw(process)

    async def _kill_redis(self, _: random.Random) -> None:
        await asyncio.to_thread(self.redis.kill)
        await asyncio.to_thread(self.redis.start)

    async def _lose(self, dice: random.Random) -> None:
        """Kill Redis, and start it with the data that it had about a second before."""
        loop = asyncio.get_running_loop()
        async with self.lasting:
            since, kept = loop.time(), self.redis.written
            await asyncio.sleep(dice.uniform(*LOST_S))
            await asyncio.to_thread(self.redis.kill)
            self.losses.append(Loss(since, loop.time()))
            self.lost_bytes += self.redis.lose(kept)
            await asyncio.to_thread(self.redis.start)


def told_of(line: str) -> tuple[datetime, str] | None:
    """The time of a log line, and the task that it is about."""
    found = LINE.match(line)
    return (datetime.fromisoformat(found[1]), found[2]) if found else None
