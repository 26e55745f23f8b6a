"""What befalls the system in a storm, by a seeded schedule: kills, restarts, cut connections."""

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.processes import FUNCTIONS, Process, free_port
from tests.redis_servers import EmbeddedRedis

# Every write is on the disk before it is acknowledged: whatever is missing, Redis did not lose it.
DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")

# Sooner than by default, so that two minutes hold many deaths.
QUICK: Final = {
    "TAILRACE_LEASE_S": "2",
    "TAILRACE_RENEW_S": "0.5",
    "TAILRACE_SCAN_S": "0.3",
    "TAILRACE_HEARTBEAT_S": "1",
    "TAILRACE_PROBE_S": "1",
    "TAILRACE_DRAIN_S": "0.5",
}

Fault = Callable[[random.Random], Awaitable[None]]


class System:
    """A Redis that keeps what it acknowledged, two APIs and three workers, each of which may die."""

    def __init__(self, redis: EmbeddedRedis) -> None:
        self.redis = redis
        self.ports = [free_port(), free_port()]
        self.faults: Counter[str] = Counter()
        self._env = {"REDIS_URL": redis.url, "FUNCTIONS_PATH": FUNCTIONS, **QUICK}
        self._apis: list[Process] = []
        self._workers: list[Process] = []
        self._leaving: list[Process] = []

    async def start(self) -> None:
        """Start it all, and wait until it works."""
        self._apis = list(await asyncio.gather(*(asyncio.to_thread(self._api, port) for port in self.ports)))
        self._workers = list(await asyncio.gather(*(asyncio.to_thread(self._worker) for _ in range(3))))

    def stop(self) -> None:
        """End it all, at once."""
        for process in [*self._apis, *self._workers, *self._leaving]:
            process.kill()
            print(*process.lines[-200:], sep="")  # shown where the test fails

    @property
    def kinds(self) -> list[dict[str, Fault]]:
        """Faults by name, in groups that may happen at the same time."""
        return [
            {"worker killed": self._kill_worker, "worker told to stop": self._stop_worker},
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
        process = Process([sys.executable, "-m", *command], self._env)
        process.wait_for("running on")
        return process

    def _worker(self) -> Process:
        command = ["taskiq", "worker", "services.worker.app:broker", "--workers", "1"]
        process = Process([sys.executable, "-m", *command], self._env)
        process.wait_for("Listening started")
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

    async def _kill_api(self, dice: random.Random) -> None:
        place = dice.randrange(len(self._apis))
        await asyncio.to_thread(self._apis[place].kill)
        self._apis[place] = await asyncio.to_thread(self._api, self.ports[place])

    async def _stop_api(self, dice: random.Random) -> None:
        place = dice.randrange(len(self._apis))
        await asyncio.to_thread(self._apis[place].stop)
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
