"""A worker that was frozen, or blocked by one of its functions, for longer than its lease: it wakes as a zombie."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, events, follow, start
from tests.support.files import left, notes, open_gate
from tests.support.logs import chunks, lines_of, log_of, written
from tests.support.processes import worker_process
from tests.support.settings import QUICK
from tests.support.tasks import ended
from tests.support.waiting import until
from tests.support.workers import freeze, holder, thaw

pytestmark = pytest.mark.anyio

# A worker that renews only when it must.
LAZY = "tests.support.lazy_worker:broker"


@pytest.mark.parametrize("every", [0.02, 3600])
async def test_a_frozen_worker_is_given_up_and_wakes(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, every: float
) -> None:
    """Its stream ends without it. Awake again it adds nothing, cleans up, and goes on to work."""
    with worker_process(own_url, **QUICK) as worker:
        task_id = await start(own_client, "ticks", folder=str(folder), to=100_000, every=every)
        await events(own_client, task_id, most=1)
        following = asyncio.create_task(events(own_client, task_id))
        freeze(worker)
        log = await ended(own, task_id)
        lines = await lines_of(own, task_id)
        assert log[-1][2]["code"] == "worker_lost"
        assert chunks(log, 1) == list(range(1, len(log)))
        assert not notes(folder, "cleaned.*")

        thaw(worker)
        await left(folder, "cleaned.1.*")
        await assert_works(own_client)
        assert await lines_of(own, task_id) == lines
        seen = await following
        assert data(seen) == chunks(log, 1)
        assert [event.event for event in seen if event.event != "message"] == ["failed"]


async def test_a_frozen_worker_is_replaced_and_wakes(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """Another worker runs the next attempt; the first one wakes in the middle of it, adds nothing, and cleans up."""
    with worker_process(own_url, **QUICK) as one, worker_process(own_url, **QUICK) as other:
        task_id = await start(own_client, "ticks_again", folder=str(folder), to=100, every=[0.05, 0.05])
        await events(own_client, task_id, most=3)
        frozen = await holder(own, task_id, [one, other])
        following = asyncio.create_task(events(own_client, task_id))
        freeze(frozen)
        await left(folder, "begun.2.*")
        thaw(frozen)
        await left(folder, "cleaned.1.*")

        log = await ended(own, task_id)
        before = len(chunks(log, 1))
        assert log == [
            *(("chunk", 1, number) for number in range(1, before + 1)),
            ("attempt", 2, {"attempt": 2, "keeps": False}),
            *(("chunk", 2, number) for number in range(1, 101)),
            ("done", 2, {"chunks": 100}),
        ]
        assert before < 100
        assert await holder(own, task_id, [one, other]) is not frozen
        assert [event.id for event in await following] == [str(seq) for seq in range(len(log))]
        assert len(notes(folder, "begun.*")) == len(notes(folder, "cleaned.*")) == 2


async def test_a_function_that_blocks_its_worker_is_given_up(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path
) -> None:
    """Nothing in the process can renew meanwhile. Chunks that the function yields after the loss are dropped."""
    with worker_process(own_url, **QUICK) as worker:
        task_id = await start(own_client, "blocks", folder=str(folder), gate=str(gate))
        log = await ended(own, task_id)
        assert (log[0], log[-1][2]["code"], len(log)) == (("chunk", 1, "before"), "worker_lost", 2)

        open_gate(gate)
        await left(folder, "cleaned.1.*")
        await assert_works(own_client)
        assert await log_of(own, task_id) == log
        assert worker.output.count("Listening started") == 1


async def test_a_function_that_blocks_its_worker_is_replaced(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path
) -> None:
    """Another worker runs the task to its end, and the one that was blocked changes nothing about it."""
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        task_id = await start(own_client, "blocks_at_first", folder=str(folder), gate=str(gate))
        log = await ended(own, task_id)
        assert log == [
            ("chunk", 1, "before"),
            ("attempt", 2, {"attempt": 2, "keeps": False}),
            ("chunk", 2, "before"),
            ("chunk", 2, "after"),
            ("done", 2, {"chunks": 2}),
        ]

        open_gate(gate)
        await left(folder, "cleaned.1.*")
        await assert_works(own_client)
        assert await log_of(own, task_id) == log


async def test_a_worker_past_its_lease_asks_before_it_writes(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path
) -> None:
    """Another worker has the task and has not written yet: nothing in the log would refuse the old one. It asks first,
    learns that it lost the task, and writes nothing.
    """
    with worker_process(own_url, broker=LAZY):
        task_id = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=1)
        await written(own, task_id, 1)
        # By the server's clock, which is this machine's.
        await own.zadd(keys.OPEN, {task_id: 2**40})
        await until(lambda: lease_is_over(own, task_id))
        await own.hset(keys.metadata(task_id), mapping={"claim": "another", "attempt": "2"})
        open_gate(gate)
        await left(folder, "cleaned.1.*")
        assert await log_of(own, task_id) == [("chunk", 1, 0)]
    await own_client.delete(f"/tasks/{task_id}")


async def test_a_worker_past_its_lease_that_still_has_its_task_goes_on(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path
) -> None:
    """Recovery has not run: the worker renews, still owns the task, and appends all its chunks."""
    with worker_process(own_url, broker=LAZY):
        task_id = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=1)
        await written(own, task_id, 1)
        await own.zadd(keys.OPEN, {task_id: 2**40})
        await until(lambda: lease_is_over(own, task_id))
        open_gate(gate)
        assert await follow(own_client, task_id) == ([0, "after"], "done", {"chunks": 2})
        await ended(own, task_id)  # recovery would not look at it for long, should the worker die before


async def lease_is_over(own: Redis, task_id: str) -> bool:
    """Whether the last renewal is longer ago than a lease."""
    seconds, micros = await own.time()
    return int(await own.hget(keys.metadata(task_id), "lease_until") or 0) < seconds * 1000 + micros // 1000


async def assert_works(client: httpx.AsyncClient) -> None:
    """A task that is started now runs."""
    assert await follow(client, await start(client, "count", to=3)) == ([1, 2, 3], "done", {"chunks": 3})
