"""A lease that is over, seen from the worker that held it: it neither writes nor waits for ever."""

import asyncio
import time
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any, Final

import msgspec
import pytest
from redis.asyncio import Redis

from plugins import append, entries, keys, metadata, release
from plugins.limits import STARTED, Ticket
from services.worker.attempt.attempt import Attempt
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Commands
from services.worker.attempt.lease import LeaseRenewer
from services.worker.attempt.log_writer import RefusedError
from services.worker.attempt.opening import open_log
from services.worker.registry import registry
from tests.support.processes import ROOT
from tests.support.settings import NEVER_S
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Seconds. Short enough to wait for, long enough that a busy machine does not miss it.
LEASE_S: Final = 1.0


class Held:
    """A task that this process has claimed."""

    def __init__(self, redis: Redis, task_id: str) -> None:
        self.redis = redis
        self.task_id = task_id
        self.begun = 0  # how often its function was
        self.claims = Commands(redis, {}).claims
        self.leases = LeaseRenewer(redis, LEASE_S, NEVER_S)

    async def claim(self, worker: str, admitted: int = 0) -> Claim | None:
        """Take it, as this worker would."""
        return await self.claims.take(self.task_id, worker, LEASE_S, admitted)

    async def release(self) -> int:
        """Release the task, as recovery does for a worker that does not renew; when (ms) it may be claimed, or 0."""
        return int(await self.redis.register_script(release.SCRIPT)(**release.arguments(self.task_id, None, 0)))

    async def perform(self, claimed: Claim) -> None:
        """Run it to the end, as the worker does."""
        plugin = registry.load([ROOT / "functions"]).plugins["count"]
        call = plugin.call

        def begin(**arguments: Any) -> Any:
            self.begun += 1
            return call(**arguments)

        plugin = msgspec.structs.replace(plugin, call=begin)
        attempt = Attempt(Commands(self.redis, {}), claimed, plugin, grace_s=10)
        lease = self.leases.add(claimed, lambda: attempt.stop(None))
        async with asyncio.timeout(DEADLINE_S):
            await attempt.perform(lease)

    async def log(self) -> list[tuple[str, int]]:
        """Events and attempts of what stands in its log."""
        lines: Any = await self.redis.lrange(keys.log(self.task_id), 0, -1)
        return [(entry.event, entry.attempt) for entry in map(entries.decode, lines)]

    def sleep_past(self, claimed: Claim) -> None:
        """Let nothing happen here until the lease is over, as if the machine had slept."""
        time.sleep(max(0, claimed.asked_at + LEASE_S + 0.1 - time.monotonic()))

    async def lose(self, claimed: Claim) -> None:
        """Let the lease run out, and recovery release the task."""
        self.sleep_past(claimed)
        assert await self.release() > 0


@pytest.fixture
async def held(redis: Redis) -> AsyncIterator[Held]:
    """A queued task that may be tried twice, in no index: only this test recovers it."""
    task_id = token_hex(16)
    fields: dict[Any, Any] = {
        "status": "queued",
        "function": "count",
        "input": '{"to":3}',
        "attempts": 2,
        "created_at": 1,
    }
    await redis.hset(keys.metadata(task_id), mapping=fields)
    await redis.expire(keys.metadata(task_id), keys.TASK_TTL_S)
    task = Held(redis, task_id)
    keeping = asyncio.create_task(task.leases.run())
    yield task
    keeping.cancel()
    await redis.delete(keys.metadata(task_id), keys.log(task_id))
    await redis.zrem(keys.OPEN, task_id)


async def test_a_worker_that_slept_asks_before_it_writes(held: Held) -> None:
    """Its lease is over, no other worker has the task: it renews first, then writes all that it has."""
    claimed = await held.claim("sleeper")
    assert claimed is not None
    held.sleep_past(claimed)
    await held.perform(claimed)
    assert await held.log() == [("chunk", 1)] * 3 + [("done", 1)]


async def test_a_worker_that_slept_too_long_writes_nothing(held: Held) -> None:
    """The task was taken from it, and waits for another: its function does not begin, and it lets go."""
    claimed = await held.claim("sleeper")
    assert claimed is not None
    await held.lose(claimed)
    await held.perform(claimed)
    assert (await held.log(), held.begun) == ([], 0)


async def test_a_worker_that_slept_and_lost_its_task_lets_go(held: Held) -> None:
    """Another worker has the task: the sleeper's function does not begin, and nothing hangs."""
    claimed = await held.claim("sleeper")
    assert claimed is not None
    await held.lose(claimed)
    other = await held.claim("other")
    assert other is not None
    assert other.attempt == 2
    await held.perform(claimed)
    assert (await held.log(), held.begun) == ([], 0)


async def test_a_worker_that_lost_its_task_lets_go_of_the_gate(held: Held, redis: Redis) -> None:
    """An attempt that has acquired a limit releases it when the task turns out to be another worker's."""
    gate = keys.limit("count", held.task_id)
    ticket = str(Ticket(held.task_id, 1))
    await redis.hset(keys.metadata(held.task_id), "gate", gate)
    await redis.zadd(gate, {ticket: STARTED})
    claimed = await held.claim("sleeper", admitted=1)
    assert claimed is not None
    await held.lose(claimed)
    await held.perform(claimed)
    assert (held.begun, await redis.zscore(gate, ticket)) == (0, None)
    await redis.delete(gate)


async def test_a_worker_whose_clock_is_fast_is_found_in_time(
    held: Held, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are by the server's clock, and so is the time at which recovery looks at them."""
    right = time.time
    await redis.zadd(keys.OPEN, {held.task_id: right() + 2 * 3_600})
    monkeypatch.setattr(time, "time", lambda: right() + 3_600)
    claimed = await held.claim("fast")
    monkeypatch.undo()
    assert claimed is not None
    assert await redis.zscore(keys.OPEN, held.task_id) == claimed.lease_until // 1_000 + 1


async def test_recovery_looks_when_the_lease_of_a_claim_is_over(held: Held, redis: Redis) -> None:
    """A worker that dies before its claim's answer comes is found then, not when the queue should have been faster; and
    a claim that is refused puts no look off.
    """
    now = time.time()
    await redis.zadd(keys.OPEN, {held.task_id: now + 60})
    assert await held.claim("dying") is not None
    look = await redis.zscore(keys.OPEN, held.task_id)
    assert look is not None
    assert now + LEASE_S <= look <= time.time() + LEASE_S + 1
    await redis.zadd(keys.OPEN, {held.task_id: now + 0.5})
    assert await held.claim("other") is None
    assert await redis.zscore(keys.OPEN, held.task_id) == now + 0.5


async def test_a_claim_takes_nothing_from_a_worker_that_does_not_renew(held: Held) -> None:
    """A message that comes twice may be early: the worker may live, and Redis have been away. Recovery decides."""
    claimed = await held.claim("silent")
    assert claimed is not None
    held.sleep_past(claimed)
    assert await held.claim("other") is None
    assert await held.release() > 0
    assert await held.claim("other") is not None


async def test_a_live_lease_is_not_released(held: Held) -> None:
    """Recovery that comes too early changes nothing."""
    assert await held.claim("living") is not None
    assert await held.release() == 0
    assert await held.redis.hget(keys.metadata(held.task_id), "status") == b"running"


async def test_a_task_without_attempts_left_is_not_released(held: Held, redis: Redis) -> None:
    """It is not tried more often than its policy says."""
    await redis.hset(keys.metadata(held.task_id), "attempts", 1)
    claimed = await held.claim("dying")
    assert claimed is not None
    held.sleep_past(claimed)
    assert await held.release() == 0
    assert await held.claim("other") is None


async def test_a_back_off_is_kept(held: Held, redis: Redis) -> None:
    """No worker can claim the task until the back-off is over, whatever messages there are. The log outlives it."""
    claimed = await held.claim("failing")
    assert claimed is not None
    script = redis.register_script(release.SCRIPT)
    due = await script(**release.arguments(held.task_id, claimed.token, 2))
    again = await script(**release.arguments(held.task_id, claimed.token, 2))
    assert due == again > 0  # the reply to the first may have been lost
    assert await held.claim("early") is None
    retried = await until(lambda: held.claim("late"), pause_s=0)  # as soon as it may be
    seconds, micros = await redis.time()
    assert seconds * 1000 + micros // 1000 >= due
    assert retried.attempt == 2


async def test_an_attempt_that_comes_after_its_successor(held: Held, redis: Redis) -> None:
    """Too late even to begin: the next attempt has its mark in the log, and the late one adds none and lets go."""
    await redis.hset(keys.metadata(held.task_id), "attempts", 3)
    first = await held.claim("dies at once")
    assert first is not None
    await held.lose(first)
    late = await held.claim("late")
    assert late is not None
    await held.lose(late)
    successor = await held.claim("successor")
    assert successor is not None
    opened = await open_log(Commands(redis, {}), successor, keeps=False)
    assert opened is not None

    await held.perform(late)
    assert await held.log() == [("attempt", 3)]


@pytest.mark.parametrize("lost", ["lease", "metadata"])
async def test_an_attempt_that_opens_too_late(held: Held, redis: Redis, lost: str) -> None:
    """It froze, or Redis has lost the task's metadata, just before it opens the log; and no other attempt has begun. It
    does not ask again and again.
    """
    await redis.hset(keys.metadata(held.task_id), "attempts", 3)
    first = await held.claim("dies at once")
    assert first is not None
    await held.lose(first)
    late = await held.claim("late")
    assert late is not None
    if lost == "lease":
        await held.lose(late)
    else:
        await redis.delete(keys.metadata(held.task_id))

    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(RefusedError, match="FENCED"):
            await open_log(Commands(redis, {}), late, keeps=False)
    assert await held.log() == []


async def test_the_entries_that_an_attempt_does_not_keep(held: Held, redis: Redis) -> None:
    """They are counted in the step that appends the attempt's mark, once: no status has too many chunks."""
    await redis.hset(keys.metadata(held.task_id), "attempts", 3)

    async def begin(*, keeps: bool) -> tuple[Claim, int]:
        claimed = await held.claim("one")
        assert claimed is not None
        opened = await open_log(Commands(redis, {}), claimed, keeps=keeps)
        assert opened is not None
        chunks = [entries.encode("chunk", claimed.attempt, opened.length + n, 1, n) for n in range(2)]
        arguments = append.arguments(held.task_id, opened.length, claimed.attempt, *chunks, claim=claimed.token)
        assert await redis.register_script(append.SCRIPT)(**arguments) == opened.length + 2
        return claimed, len(opened.kept)

    async def counted() -> int:
        return int(await redis.hget(keys.metadata(held.task_id), metadata.NON_CHUNK_ENTRIES) or 0)

    first, _ = await begin(keeps=False)
    assert await counted() == 0
    await held.lose(first)
    second, kept = await begin(keeps=False)
    assert (kept, await counted()) == (0, 3)
    mark: Any = (await redis.lrange(keys.log(held.task_id), 2, 2))[0]
    again = append.arguments(held.task_id, 2, second.attempt, mark, claim=second.token)
    assert await redis.register_script(append.MARK_SCRIPT)(**again) == 3
    assert await counted() == 3
    await held.lose(second)
    _, kept = await begin(keeps=True)
    assert (kept, await counted()) == (2, 4)
