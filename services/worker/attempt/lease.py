"""Leases: every few seconds this process renews the leases of all its tasks in one round trip.

A renewal also keeps the log of a silent function alive, and is where a worker that missed a cancel learns of it. A
worker that could not renew in time knows so by its own clock, and begins no append before a renewal has succeeded: its
machine may have been asleep, and another worker may have the task.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import keys, scripts
from plugins.transient import is_transient
from services.worker.attempt.claim import Claim
from services.worker.redis_client.batcher import script_call

SCRIPT: Final = scripts.read("renew.lua", __file__)

logger = structlog.get_logger()


class Lease:
    """The lease of one task, as far as this process knows."""

    def __init__(
        self, claim: Claim, lease_s: float, request_renewal: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        self.claim: Final = claim
        self._on_lost = on_lost
        self._lease_s = lease_s
        self._request_renewal = request_renewal
        self._renewed = asyncio.Event()
        self._until = claim.asked_at + lease_s
        self._lost = False

    def renewed(self, asked_at: float) -> None:
        """Extend the lease: a renewal that was sent at this time (monotonic) has succeeded."""
        self._until = asked_at + self._lease_s
        self._renewed.set()

    def lose(self) -> None:
        """Mark the lease as lost, and wake the callers that wait for a renewal."""
        self._lost = True
        self._renewed.set()
        self._on_lost()

    async def confirm(self) -> bool:
        """Return whether this worker has the lease: at once if it cannot have expired, else after a renewal."""
        while not self._lost and time.monotonic() >= self._until:
            self._renewed.clear()
            self._request_renewal()
            await self._renewed.wait()
        return not self._lost


class LeaseRenewer:
    """Renews the leases of this process."""

    def __init__(self, redis: Redis, lease_s: float, every_s: float) -> None:
        self._redis = redis
        self._lease_s = lease_s
        self._every_s = every_s
        self._leases: dict[Lease, None] = {}  # in the order of their claims
        self._requested = asyncio.Event()

    def add(self, claim: Claim, on_lost: Callable[[], None]) -> Lease:
        """Renew this claim's lease from now on, and return it."""
        lease = Lease(claim, self._lease_s, self._requested.set, on_lost)
        self._leases[lease] = None
        return lease

    def remove(self, lease: Lease) -> None:
        """Let this lease expire."""
        self._leases.pop(lease, None)

    async def run(self) -> None:
        """Renew at intervals, and whenever a lease requests it."""
        while True:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._requested.wait()
            except TimeoutError:
                pass
            self._requested.clear()
            await self.renew()

    async def renew(self) -> None:
        """Renew all leases, and mark those that are lost.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, or refuses some for now: those are as they were.
        """
        leases, asked_at = list(self._leases), time.monotonic()
        if not leases:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for lease in leases:
                task_id = lease.claim.task_id
                names = [keys.metadata(task_id), keys.task_input(task_id), keys.log(task_id)]
                arguments = [lease.claim.token, int(self._lease_s * 1000), keys.TASK_TTL_S, keys.CHUNK_TTL_S]
                pipeline.execute_command(*script_call(SCRIPT, names, arguments))
            for limit_key in dict.fromkeys(lease.claim.limit_key for lease in leases if lease.claim.limit_key):
                pipeline.expire(limit_key, keys.TASK_TTL_S)
            answers = await pipeline.execute(raise_on_error=False)
        for lease, answer in zip(leases, answers[: len(leases)], strict=True):
            self._on_answer(lease, asked_at, answer)
        for answer in answers:
            if isinstance(answer, RedisError) and is_transient(answer):
                raise answer

    def _on_answer(self, lease: Lease, asked_at: float, answer: Any) -> None:
        task_id = lease.claim.task_id
        if isinstance(answer, RedisError):
            if is_transient(answer):
                return
            # Its metadata is unreadable: another program has written there. The other leases are as good as before.
            logger.error("lease lost, metadata not readable", task_id=task_id, error=str(answer))
        elif answer:
            lease.renewed(asked_at)
            return
        else:
            logger.info("lease lost, task stopped", task_id=task_id)
        self.remove(lease)
        lease.lose()
