"""The whole system in a storm: whatever dies, every reader gets what was yielded, or is told why not.

STORM_S is how long it lasts (120 seconds), STORM_SEED repeats a schedule (not the timing, which is the machine's).
"""

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import entries, keys
from plugins.function import policy
from services.worker.settings import Settings
from tests.chaos.faults import System
from tests.chaos.readers import Reader
from tests.functions.storm import anew, once, onward, output, twice
from tests.support.redis_servers import DURABLE, EmbeddedRedis
from tests.support.seeds import seconds, seed
from tests.support.waiting import DEADLINE_S, until

STORM_S: Final = seconds("STORM_S", 120)
SEED: Final = seed("STORM_SEED")

STREAMS: Final = 20
READERS: Final = 5

# How often each function may be tried again.
RETRIES: Final = {each.name: each.retries for each in map(policy, (once, twice, anew, onward)) if each}

# Seconds after the last fault until everything has ended. A lease, a scan, and the work itself, on a busy machine.
CALM_S: Final = 120

pytestmark = [pytest.mark.anyio, pytest.mark.chaos, pytest.mark.timeout(STORM_S + CALM_S + 120)]


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis that may be killed and loses nothing."""
    with EmbeddedRedis(*DURABLE) as server:
        yield server


@pytest.fixture
async def system(server: EmbeddedRedis) -> AsyncIterator[System]:
    """All of it."""
    system = System(server)
    try:
        await system.start()
        yield system
    finally:
        system.stop()


class Tally(Counter[str]):
    """Counts of the storm, for the report."""

    def report(self, faults: Counter[str]) -> str:
        """As a table."""
        rows = [f"  {name:.<45} {count:>9,}" for name, count in [*sorted(faults.items()), *sorted(self.items())]]
        return "\n".join([f"storm of {STORM_S:g} s, seed {SEED}", *rows])


class Ended(NamedTuple):
    """A task's end, as its log has it."""

    task_id: str
    status: str
    end: Any
    chunks: int  # that readers have in the end
    attempt: int  # the last that left anything in the log


class Stream:
    """One task and its readers, checked when it has ended."""

    def __init__(self, system: System, dice: random.Random, tally: Tally) -> None:
        self._system = system
        self._dice = dice
        self._tally = tally
        self._function = dice.choice(["once", "twice", "anew", "onward", "onward"])
        self._input = {"seed": dice.randrange(1 << 30), "chunks": dice.choice([0, 1, 300, 300, 1_000, 1_000, 3_000])}
        self._input["burst"] = max(1, self._input["chunks"] // dice.choice([5, 100, 300]))  # up to 15 s in all
        self._cancels = dice.random() < 0.15
        self._task_id = ""
        self._readers: list[Reader] = []

    async def run(self) -> Ended:
        """Start it, follow it, and check the entries of all readers."""
        answer = await self._insist("POST", "/tasks", json={"function": self._function, "input": self._input})
        self._task_id = answer.json()["task_id"]
        dice = [random.Random(self._dice.random()) for _ in range(READERS)]
        self._readers = [Reader(self._system.ports, self._task_id, each) for each in dice]
        reading = [asyncio.create_task(reader.run()) for reader in self._readers]
        cancelled = False
        if self._cancels:
            await asyncio.sleep(self._dice.uniform(0, 5))
            cancelled = (await self._insist("DELETE", f"/tasks/{self._task_id}")).json()["status"] == "cancelled"
        await asyncio.gather(*reading)
        return await self._check(cancelled)

    async def _insist(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Repeat the request, with the same key, until an API answers it, as a client would."""
        key = {"Idempotency-Key": secrets.token_hex(8)}
        while True:
            url = f"http://127.0.0.1:{self._dice.choice(self._system.ports)}{path}"
            try:
                # Some do not wait for the answer: it is lost on them, though not what they asked for.
                async with httpx.AsyncClient(timeout=self._dice.choice([0.01, 0.1, DEADLINE_S])) as client:
                    answer = await client.request(method, url, headers=key, **more)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code in (200, 202):
                return answer
            assert answer is None or answer.status_code == 503, answer.text
            self._tally["requests repeated"] += 1
            await asyncio.sleep(0.2)  # as `Retry-After` asks for, only sooner

    async def _check(self, cancelled: bool) -> Ended:
        log = await self._log()
        ended = self._check_log(log, cancelled)
        truth = [(entry.seq, "message" if entry.event == "chunk" else entry.event, bytes(entry.data)) for entry in log]
        for reader in self._readers:
            gaps = [event for event in reader.seen if event.seq is None]
            assert gaps == [], f"{self}: nothing was lost, and still {gaps}"
            assert not reader.silences, f"{self}: a connection without a heartbeat"
            assert [tuple(event) for event in reader.seen] == truth, (
                f"{self}: {reader.answers} {difference(reader, truth)}"
            )
            self._tally["readers came back"] += reader.connections - 1
            self._tally["gaps"] += len(gaps)
            self._tally["events read"] += len(reader.seen)
        self._tally["streams"] += 1
        self._tally["readers"] += READERS
        return ended

    def _check_log(self, log: list[entries.Entry], cancelled: bool) -> Ended:
        ends = [entry for entry in log if entry.ends]
        assert log[-1:] == ends, f"{self}: ends {ends}"
        end, why = ends[0], json.loads(bytes(ends[0].data))
        assert [entry.seq for entry in log] == list(range(len(log)))
        attempts = [entry.attempt for entry in log]
        assert attempts == sorted(attempts), f"{self}: an earlier attempt wrote after a later one"
        marks = [entry for entry in log if entry.event == "attempt"]
        self._check_marks(log, marks)
        kept = kept_of(log)
        wanted = output(self._input["seed"], self._input["chunks"])
        if end.event == "done":
            assert kept == wanted, f"{self}: {len(kept)} of {len(wanted)} chunks"
            assert why == {"chunks": len(wanted)}
        else:
            assert kept == wanted[: len(kept)], f"{self}: not what it had to yield"
        assert (end.event == "cancelled") == cancelled, f"{self}: {end.event}, and the cancel was told {cancelled}"
        if end.event == "failed":
            assert why["code"] in {"worker_lost", "interrupted"}, f"{self}: {why}"
            assert end.attempt == RETRIES[self._function] + 1, f"{self}: given up at attempt {end.attempt}"
        self._tally[f"ends: {end.event} {why.get('code', '')}".rstrip()] += 1
        self._tally["further attempts"] += len(marks)
        return Ended(self._task_id, end.event, why, len(kept), max(attempts))

    def _check_marks(self, log: list[entries.Entry], marks: list[entries.Entry]) -> None:
        """Each further attempt begins with its mark, which says what it keeps; there are no more than there may be."""
        assert len({entry.attempt for entry in marks}) == len(marks), f"{self}: an attempt began twice: {marks}"
        assert all(entry.attempt <= RETRIES[self._function] + 1 for entry in log), f"{self}: an attempt too many"
        for mark in marks:
            wanted = {"attempt": mark.attempt, "keeps": self._function == "onward"}
            assert json.loads(bytes(mark.data)) == wanted, f"{self}: {mark}"
        begun = 1
        for entry in log:
            begun = entry.attempt if entry.event == "attempt" else begun
            assert entry.ends or entry.attempt == begun, f"{self}: {entry} in attempt {begun}"

    async def _log(self) -> list[entries.Entry]:
        async with Redis.from_url(self._system.redis.url) as redis:
            while True:
                try:
                    lines: Any = await redis.lrange(keys.log(self._task_id), 0, -1)
                    return [entries.decode(line) for line in lines]
                except RedisError:  # it is being restarted
                    await asyncio.sleep(0.2)

    def __repr__(self) -> str:
        readers = [f"{len(reader.seen)}{' and its end' if reader.ended else ''}" for reader in self._readers]
        return f"{self._function} {self._input} {self._task_id}, readers with {', '.join(readers)}"


def kept_of(log: list[entries.Entry]) -> list[Any]:
    """The chunks that a reader keeps if it drops those of attempts that are retried from the start."""
    kept: list[Any] = []
    for entry in log:
        if entry.event == "chunk":
            kept.append(json.loads(bytes(entry.data)))
        elif entry.event == "attempt" and not json.loads(bytes(entry.data))["keeps"]:
            kept = []
    return kept


def difference(reader: Reader, truth: list[tuple[int, str, bytes]]) -> str:
    """Where a reader's events are other than the log's, for the message."""
    seen = [tuple(event) for event in reader.seen]
    at = next((at for at, (one, other) in enumerate(zip(seen, truth, strict=False)) if one != other), None)
    if at is None:
        return f"saw {len(seen)} of {len(truth)}, the last {seen[-1:]}"
    return f"at {at}: saw {seen[at : at + 2]}, is {truth[at : at + 2]}"


async def streams_until(system: System, dice: random.Random, tally: Tally, ended: list[Ended], until: float) -> None:
    """One stream after another, until that time (of the loop)."""
    while asyncio.get_running_loop().time() < until:
        stream = Stream(system, random.Random(dice.random()), tally)
        try:
            ended.append(await stream.run())
        except asyncio.CancelledError:
            print(f"not ended: {stream}")  # shown where the test fails
            raise


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


async def assert_told(port: int, redis: Redis, ended: list[Ended]) -> None:
    """The API answers for each task as its log does. Redis has no other tasks."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as client:
        for task in ended:
            told = (await client.get(f"/tasks/{task.task_id}")).json()
            seen = (told["status"], told["end"], told["chunks"])
            assert seen == (task.status, task.end, task.chunks), f"{told}, but its log says {task}"
            # A worker may have died between its claim and its first word.
            assert task.attempt <= told["attempt"] <= RETRIES[told["function"]] + 1, told
            noted = await redis.hget(keys.metadata(task.task_id), "status")
            assert noted == task.status.encode(), f"{told}, but noted is {noted!r}"
    there = {key async for key in redis.scan_iter(keys.metadata("*"))}
    assert there == {keys.metadata(task.task_id).encode() for task in ended}


async def test_a_storm(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty streams with five readers each, while workers, APIs, connections and Redis die again and again.

    Each reader comes back until it has the end, and has then seen each entry of the log once, in order, byte by byte.
    The log is what the function yields, or as much of it as its end says; each ends once, and none before its attempts
    are used up. The API answers the same for each task. Nothing is left behind, and no process has crashed.
    """
    dice, tally, loop = random.Random(SEED), Tally(gaps=0), asyncio.get_running_loop()
    ended: list[Ended] = []
    with capsys.disabled():
        print(f"\nSTORM_SEED={SEED} STORM_S={STORM_S:g}", flush=True)
    over = loop.time() + STORM_S
    async with asyncio.timeout(STORM_S + CALM_S), asyncio.TaskGroup() as group:
        for kinds in system.kinds:
            group.create_task(system.storm(kinds, random.Random(dice.random()), over))
        for _ in range(STREAMS):
            group.create_task(streams_until(system, random.Random(dice.random()), tally, ended, over))

    with capsys.disabled():
        print(tally.report(system.faults), flush=True)
    async with Redis.from_url(system.redis.url) as redis:

        async def cleared() -> bool:
            return not await left_behind(redis)

        # The last process that died may have left bookkeeping, which waits for its lease and a scan, or a message that
        # it had read, which waits until it counts as abandoned: longer than other deadlines of the tests.
        deadline_s = Settings().abandoned_s + DEADLINE_S
        await until(cleared, "nothing is left behind", deadline_s=deadline_s, details=lambda: left_behind(redis))
        async with asyncio.timeout(DEADLINE_S):
            await assert_told(system.ports[0], redis, ended)
    await system.assert_sound()
