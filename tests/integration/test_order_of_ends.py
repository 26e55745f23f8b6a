"""Whichever service ends a task, it does so in the order that docs/design.md gives the reason for; and what the steps
around an end leave of a task: its place, its log, its index.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from secrets import token_hex
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from plugins import entries, keys, limits, metadata, release
from plugins.limits import Ticket
from services.api.settings import Settings
from services.api.tasks.contact import Contact
from services.api.tasks.ending import append_end
from services.api.tasks.limits import Limiter
from services.api.tasks.recovery import Recovery
from services.api.tasks.task import read
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Commands
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Seconds. Longer than a scan takes.
LEASE_S: Final = 1.0

Ending = Callable[[Redis, str], Coroutine[Any, Any, None]]


async def by_the_api(redis: Redis, task_id: str) -> None:
    """As a cancel and recovery do."""
    task = await read(redis, task_id)
    assert task is not None
    assert await append_end(redis, Limiter(redis, 60), task, "cancelled", {"by": "x"})


async def by_the_worker(redis: Redis, task_id: str) -> None:
    """As an attempt does that is done."""
    claim = claim_of(task_id)
    commands = Commands(redis, {})
    line = entries.encode("done", 1, 0, entries.now_ms(), {"chunks": 0})
    assert await commands.append_end(claim, 0, line) == 1
    await commands.release_place(claim)


def claim_of(task_id: str, token: str = "x") -> Claim:
    """The claim of the task's only attempt."""
    return Claim(
        task_id=task_id, token=token, attempt=1, attempts=1, function="f", input=b"{}", lease_until=0,
        asked_at=0, limit_key=limit_key_of(task_id), owner="x", last=None, cancelled=False,
    )  # fmt: skip


ENDINGS: Final[dict[str, Ending]] = {"api": by_the_api, "worker": by_the_worker}


def limit_key_of(task_id: str) -> str:
    """A gate of this task alone."""
    return keys.limit("f", task_id)


@pytest.fixture
async def redis(own_database: str) -> AsyncIterator[Redis]:
    """A client of a database that no API looks after."""
    async with Redis.from_url(own_database) as redis:
        yield redis


@pytest.fixture
async def task_id(redis: Redis) -> AsyncIterator[str]:
    """A task that is in its gate, and has begun."""
    task_id = token_hex(16)
    created = metadata.created("f", "", "x", attempts=1, input_ttl_s=0, limit_key=limit_key_of(task_id))
    running = {metadata.STATUS: "running", metadata.ATTEMPT: 1, metadata.CLAIM: "x", metadata.CREATED_AT: 1}
    await redis.hset(keys.metadata(task_id), mapping=created | running)
    await redis.expire(keys.metadata(task_id), keys.TASK_TTL_S)
    await redis.zadd(limit_key_of(task_id), {str(Ticket(task_id, 1)): limits.STARTED})
    await redis.zadd(keys.OPEN, {task_id: 9_999_999_999})
    yield task_id
    await redis.delete(keys.log(task_id), keys.metadata(task_id), limit_key_of(task_id))
    await redis.zrem(keys.OPEN, task_id)


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_log_metadata_gate_index(redis: Redis, task_id: str, ending: Ending) -> None:
    """A crash between any two steps leaves the task in the index, ended for all, its place not given away too soon."""
    order = {
        f"RPUSH {keys.log(task_id)}": "log",
        f"HSET {keys.metadata(task_id)}": "metadata",
        f"ZREM {limit_key_of(task_id)}": "gate",
        f"ZREM {keys.OPEN}": "index",
    }
    seen: list[str] = []
    async with redis.monitor() as monitor:
        doing = asyncio.create_task(ending(redis, task_id))
        async with asyncio.timeout(DEADLINE_S):
            while "index" not in seen:
                said: str = (await monitor.next_command())["command"]
                for begins, step in order.items():
                    if said.startswith(begins) and task_id in said and step not in seen:
                        seen.append(step)
        await doing
    assert seen == ["log", "metadata", "gate", "index"]


async def test_a_cancel_while_no_lease_could_be_renewed(redis: Redis, task_id: str) -> None:
    """After an outage the lease is over, though the worker lives: it is told of a cancel, and its function keeps its
    place until recovery knows that the worker is lost.
    """
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.CANCEL)
        await redis.hset(keys.metadata(task_id), metadata.LEASE_UNTIL, 1)
        await by_the_api(redis, task_id)
        told = await until(lambda: pubsub.get_message(ignore_subscribe_messages=True))
    assert told["data"] == task_id.encode()
    contact, settings = Contact(redis, LEASE_S), Settings(lease_s=LEASE_S)
    recovery = Recovery(redis, Limiter(redis, 60), contact, settings)
    await recovery.scan()
    assert await redis.zscore(limit_key_of(task_id), str(Ticket(task_id, 1))) == limits.STARTED
    await until(lambda: contact.lasts(LEASE_S))
    await recovery.scan()
    assert await redis.zscore(limit_key_of(task_id), str(Ticket(task_id, 1))) is None
    assert await redis.zscore(keys.OPEN, task_id) is None


async def test_a_worker_that_renews_just_in_time(redis: Redis, task_id: str) -> None:
    """Recovery has read that the lease is over; the step that would end the task as lost finds it renewed."""
    task = await read(redis, task_id)
    assert task is not None
    seconds, _ = await redis.time()
    await redis.hset(keys.metadata(task_id), metadata.LEASE_UNTIL, (seconds + 60) * 1000)
    assert not await append_end(redis, Limiter(redis, 60), task, "failed", {}, worker_lost=True)
    assert (await redis.llen(keys.log(task_id)), await redis.hget(keys.metadata(task_id), "status")) == (0, b"running")
    await redis.hset(keys.metadata(task_id), metadata.LEASE_UNTIL, 1)
    assert await append_end(redis, Limiter(redis, 60), task, "failed", {}, worker_lost=True)
    assert await redis.zcard(limit_key_of(task_id)) == 0


async def test_an_end_that_an_older_release_did_not_record(redis: Redis, task_id: str) -> None:
    """It took two steps, and died between them. The function is silent, and its worker renews the lease: the next look
    tells it to stop.
    """
    seconds, _ = await redis.time()
    await redis.hset(keys.metadata(task_id), metadata.LEASE_UNTIL, (seconds + 60) * 1000)
    await redis.rpush(keys.log(task_id), entries.encode("cancelled", 1, 0, entries.now_ms(), {"by": "x"}))
    await redis.expire(keys.log(task_id), keys.CHUNK_TTL_S)
    await redis.zadd(keys.OPEN, {task_id: 0})
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.CANCEL)
        await Recovery(redis, Limiter(redis, 60), Contact(redis, LEASE_S), Settings(lease_s=LEASE_S)).scan()
        told = await until(lambda: pubsub.get_message(ignore_subscribe_messages=True))
    assert told["data"] == task_id.encode()
    assert await redis.hget(keys.metadata(task_id), metadata.STATUS) == b"cancelled"
    assert await redis.zscore(limit_key_of(task_id), str(Ticket(task_id, 1))) == limits.STARTED


@pytest.mark.parametrize(
    "fields",
    [
        {metadata.ATTEMPT: 2},
        {metadata.STATUS: "queued"},
        {metadata.STATUS: "cancelled"},
        {metadata.STATUS: "cancelled", metadata.ATTEMPT: 0},
    ],
    ids=["the next one runs", "it was released", "it was cancelled", "it was cancelled before it ran"],
)
async def test_an_attempt_that_is_over_acquires_nothing(redis: Redis, task_id: str, fields: dict[Any, Any]) -> None:
    """A call that comes late takes no place from those that wait."""
    await redis.zrem(limit_key_of(task_id), str(Ticket(task_id, 1)))
    await redis.hset(keys.metadata(task_id), mapping=fields)
    await Limiter(redis, 60).acquire(limit_key_of(task_id), Ticket(task_id, 1), 1)
    assert await redis.zcard(limit_key_of(task_id)) == 0
    assert await redis.xlen(keys.QUEUE) == 0


async def test_a_worker_whose_claim_redis_has_lost(redis: Redis, task_id: str) -> None:
    """Another worker has the same attempt: the place at the limit is that worker's."""
    await Commands(redis, {}).release_place(claim_of(task_id, "lost"))
    assert await redis.zscore(limit_key_of(task_id), str(Ticket(task_id, 1))) == limits.STARTED
    await Commands(redis, {}).release_place(claim_of(task_id))
    assert await redis.zscore(limit_key_of(task_id), str(Ticket(task_id, 1))) is None


async def test_the_log_outlives_a_back_off(redis: Redis, task_id: str) -> None:
    """The chunks are kept for an hour after the next attempt may begin, also if recovery looks meanwhile."""
    back_off_s = 7_200
    await redis.hset(keys.metadata(task_id), metadata.ATTEMPTS, 2)
    await redis.rpush(keys.log(task_id), entries.encode("chunk", 1, 0, entries.now_ms(), 1))
    await redis.expire(keys.log(task_id), DEADLINE_S)
    arguments = release.arguments(task_id, "x", back_off_s)
    assert await redis.register_script(release.SCRIPT)(**arguments)
    assert await redis.ttl(keys.log(task_id)) > back_off_s + keys.CHUNK_TTL_S - DEADLINE_S

    await redis.expire(keys.log(task_id), DEADLINE_S)
    await redis.zadd(keys.OPEN, {task_id: 0})
    await Recovery(redis, Limiter(redis, 60), Contact(redis, LEASE_S), Settings(lease_s=LEASE_S)).scan()
    assert await redis.ttl(keys.log(task_id)) > back_off_s + keys.CHUNK_TTL_S - DEADLINE_S
