"""The whole system in a storm: whatever dies, every reader gets what was yielded, or is told why not.

STORM_S is how long both storms last together (120 seconds), STORM_SEED repeats their schedules (not the timing, which
is the machine's).
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from plugins import entries, keys
from tests.chaos.faults import ABANDONED_S, System
from tests.chaos.streams import RETRIES, Ended, Stream
from tests.support.redis_servers import FORGETFUL, EmbeddedRedis
from tests.support.seeds import seconds, seed
from tests.support.waiting import DEADLINE_S, until

# Of each storm: there are two.
STORM_S: Final = seconds("STORM_S", 120) / 2
SEED: Final = seed("STORM_SEED")

STREAMS: Final = 20

# Seconds after the last fault until everything has ended. A lease, a scan, and the work itself, on a busy machine.
CALM_S: Final = 120

pytestmark = [pytest.mark.anyio, pytest.mark.chaos, pytest.mark.timeout(STORM_S + CALM_S + 120)]


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis that may be killed and loses nothing, unless it is told to."""
    with EmbeddedRedis(*FORGETFUL) as server:
        yield server


@pytest.fixture
def forgets() -> bool:
    """Whether the Redis of the test loses its last second now and then."""
    return False


@pytest.fixture
async def system(server: EmbeddedRedis, forgets: bool) -> AsyncIterator[System]:
    """All of it."""
    system = System(server, forgets=forgets)
    try:
        await system.start()
        yield system
    finally:
        system.stop()


class Tally(Counter[str]):
    """Counts of the storm, for the report."""

    def report(self, system: System) -> str:
        """As a table."""
        if system.forgets:
            self["bytes that redis lost"] = system.lost_bytes
        rows = [*sorted(system.faults.items()), *sorted(self.items())]
        table = [f"  {name:.<45} {count:>9,}" for name, count in rows]
        return "\n".join([f"storm of {STORM_S:g} s, seed {SEED}", *table])


async def streams_until(
    system: System, dice: random.Random, tally: Tally, ended: list[Ended | None], until: float
) -> None:
    """One stream after another, until that time (of the loop)."""
    while asyncio.get_running_loop().time() < until:
        stream = Stream(system, random.Random(dice.random()), tally)
        try:
            ended.append(await stream.run())
        except asyncio.CancelledError:
            print(f"not ended: {stream}; {at_redis(system.redis.url, stream._task_id)}")  # shown where the test fails
            raise


def at_redis(url: str, task_id: str | None) -> dict[str, Any]:
    """The state of a task that has not ended, and of the queue. Not async: it is asked while a cancel is under way."""
    with SyncRedis.from_url(url, decode_responses=True, socket_timeout=1) as redis:
        return {
            "metadata": redis.hgetall(keys.metadata(task_id or "")),
            "in the index": redis.zscore(keys.OPEN, task_id or ""),
            "on the queue": redis.xrange(keys.QUEUE),
            "pending": redis.xpending_range(keys.QUEUE, keys.QUEUE_GROUP, "-", "+", 100),
            "groups": redis.xinfo_groups(keys.QUEUE),
        }


async def left_behind(redis: Redis) -> dict[str, Any]:
    """Everything that should not be there when all has ended."""
    immortal = [
        key async for key in redis.scan_iter() if await redis.ttl(key) == -1 and key.decode() not in keys.PERMANENT
    ]
    groups: Any = await redis.xinfo_groups(keys.QUEUE)
    found = {
        "queued": await redis.xlen(keys.QUEUE),
        "pending": sum(group["pending"] for group in groups),
        "open": await redis.zcard(keys.OPEN),
        "subscribed": await redis.pubsub_channels("stream:*"),
        "immortal": immortal,
    }
    return {name: value for name, value in found.items() if value}


async def assert_told(port: int, redis: Redis, ended: list[Ended], *, forgets: bool) -> None:
    """The API answers for each task as its log does. Redis has no other tasks.

    A Redis that `forgets` may have others: it lost the key of a POST, whose repetition has started another task. They
    are over, too.
    """
    wrong = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as client:
        for task in ended:
            answer = await client.get(f"/tasks/{task.task_id}")
            told = answer.json()
            if answer.status_code != 200:
                wrong.append(f"{told}, but its log says {task}")
                continue
            seen = (told["status"], told["end"], told["chunks"])
            noted: Any = await redis.hget(keys.metadata(task.task_id), "status")
            # A worker may have died between its claim and its first word.
            attempts = range(task.attempt, RETRIES[told["function"]] + 2)
            if seen != (task.status, task.end, task.chunks) or told["attempt"] not in attempts:
                wrong.append(f"{told}, but its log says {task}")
            if (noted or b"").decode() != task.status:
                wrong.append(f"{told}, but noted is {noted!r}")
    assert not wrong, "\n".join(wrong)
    there = {key async for key in redis.scan_iter(keys.metadata("*"))}
    others = there - {keys.metadata(task.task_id).encode() for task in ended}
    assert len(there) == len(ended) + len(others), "tasks that ended are not there any more"
    assert forgets or not others, f"tasks that no client has started: {others}"
    for other in others:
        status: Any = await redis.hget(other, "status")
        assert (status or b"").decode() in entries.ENDS, f"{other!r} is {status!r}"


async def outlast(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """A storm of this system, until everything has ended; and what must hold then."""
    dice, tally, loop = random.Random(SEED), Tally(gaps=0), asyncio.get_running_loop()
    ended: list[Ended | None] = []
    with capsys.disabled():
        print(f"\nSTORM_SEED={SEED} STORM_S={2 * STORM_S:g}", flush=True)
    over = loop.time() + STORM_S
    async with asyncio.timeout(STORM_S + CALM_S), asyncio.TaskGroup() as group:
        for kinds in system.kinds:
            group.create_task(system.storm(kinds, random.Random(dice.random()), over))
        for _ in range(STREAMS):
            group.create_task(streams_until(system, random.Random(dice.random()), tally, ended, over))

    with capsys.disabled():
        print(tally.report(system), flush=True)
    async with Redis.from_url(system.redis.url) as redis:

        async def cleared() -> bool:
            return not await left_behind(redis)

        # The last process that died may have left bookkeeping, which waits for its lease and a scan, or a message that
        # it had read, which waits until it counts as abandoned: longer than other deadlines of the tests.
        deadline_s = ABANDONED_S + DEADLINE_S
        await until(cleared, "nothing is left behind", deadline_s=deadline_s, details=lambda: left_behind(redis))
        async with asyncio.timeout(DEADLINE_S):
            there = [task for task in ended if task is not None]
            await assert_told(system.ports[0], redis, there, forgets=system.forgets)
    await system.assert_sound()


async def test_a_storm(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty streams with five readers each, while workers, APIs, connections and Redis die again and again; now and
    then Redis and the APIs are frozen together, with or without the workers.

    Each reader comes back until it has the end, and has then seen each entry of the log once, in order, byte by byte.
    The log is what the function yields, or as much of it as its end says; each ends once, and none before its attempts
    are used up. The API answers the same for each task. Nothing is left behind, and no process has crashed. Recovery
    has taken no task from a worker that lived.
    """
    await outlast(system, capsys)
    assert not (taken := system.taken_from_the_living()), "".join(taken)


@pytest.mark.parametrize("forgets", [True])
async def test_a_storm_with_losses(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, while Redis comes back as it was a second before, now and then.

    Redis may have lost the answers of that second: a task that a POST has started, a cancel, an end that readers have.
    All else holds: a log has one end and the output of one chain of attempts, no reader waits for ever, and nothing is
    left behind. Each reader has seen the log after its last gap. The exceptions are a reader that had an end which was
    lost, and one that was not connected when its entries were lost, and came back when the log had others.
    """
    await outlast(system, capsys)
    assert system.lost_bytes
