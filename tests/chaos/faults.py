"""The faults of a storm, by a seeded schedule: kills, restarts, cut connections."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.processes import FUNCTIONS, Process, free_port
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import QUICK

# Sooner than by default, so that two minutes hold many deaths.
HASTY: Final = QUICK | {"TAILRACE_PROBE_S": "1", "TAILRACE_DRAIN_S": "0.5"}

# Longer than a lease, in seconds: a worker that wakes up then no longer owns the tasks that it ran.
FROZEN_S: Final = 3

# Log events that no process may write, whatever happens to the others.
NEVER_SAID: Final = (
    "background task crashed",
    "never retrieved",
    "tail failed",
    "attempt crashed",
    "log changed unexpectedly",
    "function did not stop",
    "shutdown timed out",
    "Exception in ASGI application",
)

Fault = Callable[[random.Random], Awaitable[None]]


class System:
    """A Redis that keeps what it acknowledged, two APIs and three workers, each of which may die."""

    def __init__(self, redis: EmbeddedRedis) -> None:
        self.redis = redis
        self.ports = [free_port(), free_port()]
        self.faults: Counter[str] = Counter()
        self._env = {"REDIS_URL": redis.url, "FUNCTIONS_PATH": FUNCTIONS, **HASTY}
        self._apis: list[Process] = []
        self._workers: list[Process] = []
        self._leaving: list[Process] = []
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
            said = [words for words in NEVER_SAID if words in process.output]
            assert not said, f"{said}:\n{process.output}"
            assert process.output.count("Started process worker-0") <= 1, f"restarted:\n{process.output}"

    @property
    def kinds(self) -> list[dict[str, Fault]]:
        """Faults by name, in groups that may happen at the same time."""
        return [
            {
                "worker killed": self._kill_worker,
                "worker told to stop": self._stop_worker,
                "worker frozen": self._freeze_worker,
            },
            {"api killed": self._kill_api, "api told to stop": self._stop_api},
            {"pub/sub connections cut": self._cut_pubsub},
            {"redis killed": self._kill_redis},
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
        command = ["uvicorn", "--factory", "services.api.app:create_app", "--port", str(port), "--no-access-log"]
        return self._process(command, "running on")

    def _worker(self) -> Process:
        command = ["taskiq", "worker", "services.worker.app:broker", "--workers", "1"]
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
        self._leaving.append(self._workers[place])
        self._workers[place] = await asyncio.to_thread(self._worker)

    async def _freeze_worker(self, dice: random.Random) -> None:
        group = self._workers[dice.randrange(len(self._workers))].pid
        os.killpg(group, signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        os.killpg(group, signal.SIGCONT)

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

    async def _kill_redis(self, _: random.Random) -> None:
        await asyncio.to_thread(self.redis.kill)
        await asyncio.to_thread(self.redis.start)
