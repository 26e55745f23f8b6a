"""A long queue: recovery looks at leases first, at what waits in batches, and adds no message that is there."""

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from plugins import entries, keys, metadata
from plugins.limits import Ticket
from services.api.settings import Settings
from services.api.tasks import recovery as module
from services.api.tasks.contact import Contact
from services.api.tasks.limits import Limiter
from services.api.tasks.recovery import Recovery
from services.worker.attempt.commands import Commands
from tests.support.backlog import create, lost
from tests.support.logs import log_of

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

BACKLOG: Final = 20_000

# Seconds until a worker is judged, as if the process had been in contact with Redis for longer.
SETTINGS: Final = Settings(lease_s=1e-9)


@pytest.fixture
async def redis(own_database: str) -> AsyncIterator[Redis]:
    """A client of a database that no process looks after."""
    async with Redis.from_url(own_database) as redis:
        yield redis


@pytest.fixture
def recovery(redis: Redis) -> Recovery:
    """Recovery, in this process."""
    return Recovery(redis, Limiter(redis, SETTINGS.unclaimed_s), Contact(redis, SETTINGS.lease_s), SETTINGS)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The round trips of batches, as they are made, each with the number of tasks that it reads, or commands."""
    trips: list[tuple[str, int]] = []

    def count(name: str, sent: Any) -> None:
        async def counted(redis: Redis, batch: list[Any]) -> Any:
            trips.append((name, len(batch)))
            return await sent(redis, batch)

        monkeypatch.setattr(module, name, counted)

    for name in ("fetch", "pipelined"):
        count(name, vars(module)[name])
    return trips


async def messages(redis: Redis, ids: list[str]) -> list[Any]:
    """The entries of the queue that have these tasks' messages."""
    async with redis.pipeline(transaction=False) as pipeline:
        for task_id in ids:
            pipeline.hget(keys.metadata(task_id), metadata.MESSAGE)
        return list(await pipeline.execute())


async def make_due(redis: Redis) -> None:
    """Let every task that waits be due for a look."""
    ids: Any = await redis.zrange(keys.OPEN, 0, -1)
    await redis.zadd(keys.OPEN, dict.fromkeys(ids, keys.WAITING + 1))


async def test_the_end_of_a_dead_worker_s_stream_waits_for_no_backlog(
    redis: Redis, recovery: Recovery, trips: list[tuple[str, int]]
) -> None:
    """20,000 queued tasks are due for longer than one lease: the scan ends that stream, and reads none of them."""
    await create(redis, BACKLOG)
    task_id = await lost(redis)
    await recovery.scan()
    assert (await log_of(redis, task_id))[-1][0] == "failed"
    assert trips == [("fetch", 1)]
    assert await redis.zcount(keys.OPEN, keys.WAITING, "+inf") == BACKLOG


async def test_looks_at_what_waits_share_round_trips_and_are_bounded(
    redis: Redis, recovery: Recovery, trips: list[tuple[str, int]]
) -> None:
    """A scan looks at some thousand of more tasks, the longest due, in two round trips for each 200."""
    ids = await create(redis, 2 * module.MAX_WAITING)
    await redis.zadd(keys.OPEN, {task_id: keys.WAITING + number for number, task_id in enumerate(ids)})
    await recovery.scan_waiting()
    looked_at = await redis.zcount(keys.OPEN, keys.WAITING + len(ids), "+inf")
    assert looked_at == module.MAX_WAITING
    assert len(trips) == 2 * module.MAX_WAITING // module.BATCH_SIZE
    left: Any = await redis.zrange(keys.OPEN, 0, 0)
    assert left == [ids[module.MAX_WAITING].encode()]


async def test_the_queue_is_never_longer_than_the_tasks_that_wait(redis: Redis, recovery: Recovery) -> None:
    """However often recovery looks at them."""
    await create(redis, 1_000)
    for _ in range(5):
        await make_due(redis)
        await recovery.scan_waiting()
        assert await redis.xlen(keys.QUEUE) == 1_000


@pytest.mark.parametrize("lost_messages", [1, 300, 1_000])
async def test_messages_that_were_lost_are_queued_again(redis: Redis, recovery: Recovery, lost_messages: int) -> None:
    """One of them, the oldest ones, or all: each task that has lost its message gets another, the others do not."""
    ids = await create(redis, 1_000)
    await redis.xdel(keys.QUEUE, *(await messages(redis, ids))[:lost_messages])
    await recovery.scan_waiting()
    assert await redis.xlen(keys.QUEUE) == 1_000
    there: Any = await redis.xrange(keys.QUEUE)
    assert {entry for entry, _ in there} == set(await messages(redis, ids))


async def test_a_task_that_the_previous_release_indexed(redis: Redis, recovery: Recovery) -> None:
    """It is indexed by its plain time, and nothing says where its message is: it is queued once more, and then waits
    as the others do.
    """
    (task_id,) = await create(redis, 1)
    await redis.hdel(keys.metadata(task_id), metadata.MESSAGE)
    await redis.zadd(keys.OPEN, {task_id: 1})
    await redis.delete(keys.QUEUE)
    await recovery.scan()
    assert await redis.xlen(keys.QUEUE) == 1
    assert (await redis.zscore(keys.OPEN, task_id) or 0) > keys.WAITING
    await make_due(redis)
    await recovery.scan_waiting()
    assert await redis.xlen(keys.QUEUE) == 1


async def test_a_claim_takes_a_task_out_of_what_waits(redis: Redis) -> None:
    """From then on its lease is watched, among the leases."""
    (task_id,) = await create(redis, 1)
    claim = await Commands(redis, {}).claims.take(task_id, "w", 15)
    assert claim is not None
    assert await redis.zscore(keys.OPEN, task_id) == claim.lease_until // 1_000 + 1


async def test_tasks_at_their_limit_share_round_trips_too(
    redis: Redis, recovery: Recovery, trips: list[tuple[str, int]]
) -> None:
    """A hundred tasks wait for one place: one of them has a message, and a scan costs three round trips."""
    key = keys.limit("f", "0")
    ids = [uuid4().hex for _ in range(100)]
    for order, task_id in enumerate(ids, entries.now_ms()):
        fields = metadata.created("f", "", "x", attempts=1, input_ttl_s=0, limit_key=key)
        await redis.hset(keys.metadata(task_id), mapping=fields | {metadata.CREATED_AT: order})
        await redis.expire(keys.metadata(task_id), 60)
    declared = b'{"name":"f","version":"","description":"","input":{},"timeout":1,"concurrency":1}'
    await redis.hset(keys.FUNCTIONS, "f", declared)
    await redis.expire(keys.FUNCTIONS, 60)
    await redis.zadd(keys.OPEN, {task_id: keys.WAITING + number for number, task_id in enumerate(ids)})
    for _ in range(2):
        trips.clear()
        await recovery.scan_waiting()
        assert trips == [("fetch", 100), ("pipelined", 200), ("pipelined", 1)]
        assert await redis.zcard(key) == 100
        assert await redis.xlen(keys.QUEUE) == 1
        await make_due(redis)
    admitted: Any = await redis.zrange(key, "-inf", "(0", byscore=True)
    assert admitted == [str(Ticket(ids[0], 1)).encode()]
