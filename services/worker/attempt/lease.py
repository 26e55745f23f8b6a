"""The lease: every few seconds all tasks of this process are renewed in one round trip.

A renewal also keeps the log of a silent function alive, and is where a worker that missed a cancel learns of it. A
worker that could not renew in time knows so by its own clock, and begins no append before a renewal has succeeded: it
may have been asleep, and another may have the task.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError
from redis.typing import EncodableT

from plugins import keys
from services.worker.attempt.claim import Claim
from services.worker.redis_client.retry import RETRY_PAUSE_S

SCRIPT: Final = Path(__file__).with_name("renew.lua").read_text()

logger = structlog.get_logger()


class Lease:
    """One task's lease, as its holder knows it."""

    def __init__(self, claim: Claim, lease_s: float, ask: Callable[[], None], lost: Callable[[], None]) -> None:
        self.claim: Final = claim
        self._on_lost = lost
        self._lease_s = lease_s
        self._ask = ask
        self._renewed = asyncio.Event()
        self._until = claim.asked_at + lease_s
        self._lost = False

    def renewed(self, asked_at: float) -> None:
        """A renewal that was asked for at this time (monotonic) has succeeded."""
        self._until = asked_at + self._lease_s
        self._renewed.set()

    def lose(self) -> None:
        """The task is no longer ours: nobody need wait for a renewal."""
        self._lost = True
        self._renewed.set()
        self._on_lost()

    async def held(self) -> bool:
        """Whether the lease is ours: at once while it surely is; once it may not be, ask, and wait for the answer."""
        while not self._lost and time.monotonic() >= self._until:
            self._renewed.clear()
            self._ask()
            await self._renewed.wait()
        return not self._lost


class Keeper:
    """Keeps the leases of this process."""

    def __init__(self, redis: Redis, lease_s: float, every_s: float) -> None:
        self._redis = redis
        self._script: AsyncScript = redis.register_script(SCRIPT)
        self._lease_s = lease_s
        self._every_s = every_s
        self._leases: set[Lease] = set()
        self._asked = asyncio.Event()

    def hold(self, claim: Claim, lost: Callable[[], None]) -> Lease:
        """Keep this claim's lease from now on."""
        lease = Lease(claim, self._lease_s, self._asked.set, lost)
        self._leases.add(lease)
        return lease

    def drop(self, lease: Lease) -> None:
        """Let it run out."""
        self._leases.discard(lease)

    async def run(self) -> None:
        """Renew again and again, for ever, and whenever a lease's holder asks."""
        while True:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                await self.renew()
            except RedisError as error:
                logger.warning("leases not renewed", tasks=len(self._leases), error=str(error))
                await asyncio.sleep(RETRY_PAUSE_S)

    async def renew(self) -> None:
        """Renew all leases, and tell the holders of those that are lost."""
        leases, asked_at = list(self._leases), time.monotonic()
        if not leases:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for lease in leases:
                task_id = lease.claim.task_id
                arguments: list[EncodableT] = [lease.claim.token, int(self._lease_s * 1000), keys.TASK_TTL_S]
                await self._script(keys=[keys.metadata(task_id)], args=arguments, client=pipeline)
                pipeline.expire(keys.log(task_id), keys.CHUNK_TTL_S)
            for gate in {lease.claim.limit_key for lease in leases} - {""}:
                pipeline.expire(gate, keys.TASK_TTL_S)
            answers = await pipeline.execute()
        for lease, kept in zip(leases, answers[: 2 * len(leases) : 2], strict=True):
            if kept:
                lease.renewed(asked_at)
            else:
                logger.info("stopped: the task is no longer ours", task_id=lease.claim.task_id)
                self.drop(lease)
                lease.lose()
