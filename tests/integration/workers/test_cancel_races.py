"""Cancel against whatever the function does at that moment: one end, and DELETE says the same as the stream."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.commands.core import Script

from plugins import append, entries, keys
from tests.support.client import data, events, start
from tests.support.processes import worker_process
from tests.support.seeds import seed
from tests.support.settings import QUICK
from tests.support.tasks import ended

pytestmark = pytest.mark.anyio

# Tasks per run; there are two.
TASKS = 500
AT_ONCE = 8


@pytest.mark.parametrize("run", [1, 2])
async def test_cancels_around_the_end(own_url: str, own_client: httpx.AsyncClient, own: Redis, run: int) -> None:
    """Cancelled at every moment from before the claim to after the end: DELETE answers 202 if and only if the stream
    ends `cancelled`, 200 if and only if it had ended before, and every reader sees the one end that the log has.
    """
    drawn = seed("CANCEL_SEED")
    print(f"CANCEL_SEED={drawn}")
    dice = random.Random(drawn)
    slots = asyncio.Semaphore(AT_ONCE)
    tally: Counter[tuple[int, str, int]] = Counter()
    # Seconds between two chunks: slower after each function that was done before its cancel, faster after each other.
    # So the moments are around the end on a busy machine, too.
    every = 0.01

    async def race(chunks: int, before: int, pause: float) -> None:
        nonlocal every
        async with slots:
            task_id = await start(own_client, "is_short", chunks=chunks, every=every)
            following = asyncio.create_task(events(own_client, task_id))
            if before:
                await events(own_client, task_id, most=before)
            await asyncio.sleep(pause)  # no wait for anything: the moment that is tried
            answer = await own_client.delete(f"/tasks/{task_id}")
            log = await ended(own, task_id)
            end = log[-1][0]
            every = min(max(0.001, every * 1.1 if end == "done" else every / 1.1), 1)
            assert (answer.status_code, end) in ((202, "cancelled"), (200, "done"))
            assert answer.json()["status"] == end
            assert end == "cancelled" or log[-1][2] == {"chunks": chunks}
            seen = await following
            assert [event.id for event in seen] == [str(seq) for seq in range(len(log))]
            assert (seen[-1].event, data(seen)) == (end, list(range(len(log) - 1)))
            tally[answer.status_code, end, chunks - (len(log) - 1)] += 1

    with worker_process(own_url, **QUICK):
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                chunks = dice.randint(1, 6)
                before = max(0, chunks - dice.randint(1, 4))
                group.create_task(race(chunks, before, dice.choice([0, dice.uniform(0, 0.02)])))
    for (code, end, missing), times in sorted(tally.items()):
        print(f"{code} {end}, {missing} chunks before its own end: {times}")
    assert sum(tally.values()) == TASKS
    by_code = {code: sum(times for key, times in tally.items() if key[0] == code) for code in (200, 202)}
    assert min(by_code.values()) >= TASKS / 50, f"the moments were not around the end: {by_code}"


def line(event: str, seq: int, value: object = None) -> bytes:
    """An entry at a fixed time."""
    return entries.encode(event, 1, seq, 0, value)


class Party:
    """A writer of a log, step by step. It knows in the end whether the log has its own end."""

    def __init__(self, redis: SyncRedis, script: Script, task_id: str, name: str) -> None:
        self.redis, self.script, self.task_id, self.name = redis, script, task_id, name
        self.won: bool | None = None

    def steps(self) -> Iterator[None]:
        """One round trip per step."""
        raise NotImplementedError

    def log(self) -> list[entries.Entry]:
        """The entries of the log."""
        lines: Any = self.redis.lrange(keys.log(self.task_id), 0, -1)
        return [entries.decode(each) for each in lines]

    def call(self, expected: int, *lines: bytes) -> int:
        """The write rule's answer."""
        return int(self.script(**append.end_arguments(self.task_id, expected, 1, *lines)))


class Worker(Party):
    """Appends a chunk, then the last chunk together with `done`; stops where it is refused."""

    def steps(self) -> Iterator[None]:
        """One round trip per step."""
        for expected, lines in ((0, [line("chunk", 0)]), (1, [line("chunk", 1), line("done", 2, {"chunks": 2})])):
            yield
            answer = self.call(expected, *lines)
            if answer < 0:
                self.won = False
                return
        self.won = True


class Canceller(Party):
    """Looks how long the log is and appends `cancelled` there, until that works or there is an end."""

    def steps(self) -> Iterator[None]:
        """One round trip per step."""
        while self.won is None:
            yield
            log = self.log()
            if log and log[-1].ends:
                self.won = False
                return
            yield
            if self.call(len(log), line("cancelled", len(log), {"by": self.name})) > 0:
                self.won = True


class Forgetful(Worker):
    """The same worker, none of whose replies arrives at first: it makes every call twice."""

    def call(self, expected: int, *lines: bytes) -> int:
        """The second answer."""
        first = super().call(expected, *lines)
        second = super().call(expected, *lines)
        # The second call appends nothing new, and a refusal stays a refusal.
        assert (first > 0) == (second > 0)
        return second


@pytest.fixture
def bare(own_url: str) -> Iterator[SyncRedis]:
    """A client that waits."""
    with SyncRedis.from_url(own_url) as redis:
        yield redis


@pytest.mark.parametrize("kind", [Worker, Forgetful])
def test_every_order_of_a_cancel_and_the_last_chunks(bare: SyncRedis, kind: type[Worker]) -> None:
    """However the round trips of a worker and of two cancels fall between each other, one of the three has its end in
    the log, knows it, and the others know that they have not.
    """
    script = bare.register_script(append.END_SCRIPT)
    outcomes: Counter[str] = Counter()
    for number, order in enumerate(itertools.product(range(3), repeat=8)):
        task_id = f"{number:032x}"
        bare.hset(keys.metadata(task_id), "status", "running")
        kinds = {"worker": kind, "one": Canceller, "other": Canceller}
        parties: list[Party] = [each(bare, script, task_id, name) for name, each in kinds.items()]
        running = {index: party.steps() for index, party in enumerate(parties)}
        # Steps that the order leaves over come last, by turns.
        for index in itertools.chain(order, itertools.cycle(range(3))):
            if not running:
                break
            if index in running and next(running[index], StopIteration) is StopIteration:
                del running[index]
        log = parties[0].log()
        bare.delete(keys.log(task_id), keys.metadata(task_id))
        assert [entry.ends for entry in log] == [False] * (len(log) - 1) + [True]
        assert [party.won for party in parties].count(True) == 1
        assert parties[0].won is (log[-1].event == "done")
        outcomes[f"{log[-1].event} after {len(log) - 1}"] += 1
    print(dict(outcomes))
    assert set(outcomes) == {"cancelled after 0", "cancelled after 1", "done after 2"}
