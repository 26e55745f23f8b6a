"""A worker that dies, by its function's fault or by a kill: its tasks end, or go on elsewhere."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, events, start
from tests.support.files import notes
from tests.support.logs import chunks, log_of, written
from tests.support.processes import worker_process
from tests.support.readers import Reader
from tests.support.settings import QUICK
from tests.support.tasks import ended
from tests.support.waiting import until
from tests.support.workers import holder

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


def again(attempt: int, *, keeps: bool = False) -> tuple[str, int, object]:
    """The mark of an attempt."""
    return "attempt", attempt, {"attempt": attempt, "keeps": keeps}


async def test_a_function_that_always_kills_its_worker(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """It may do so as often as its policy says, and no more: then its task ends as `worker_lost`. Readers see each
    attempt begin.
    """
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "kills_its_worker", times=99)
        seen = await events(own_client, task_id)
        log = await ended(own, task_id)

    assert log[:-1] == [
        ("chunk", 1, "attempt 1"),
        again(2),
        ("chunk", 2, "attempt 2"),
        again(3),
        ("chunk", 3, "attempt 3"),
    ]
    assert (log[-1][0], log[-1][2]["code"]) == ("failed", "worker_lost")
    assert [event.event for event in seen] == ["message", "attempt", "message", "attempt", "message", "failed"]
    status = (await own_client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["attempt"], status["chunks"]) == ("failed", 3, 1)


async def test_a_function_that_kills_its_worker_twice(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """The worker that comes in its place finishes the task."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "kills_its_worker", times=2)
        log = await ended(own, task_id)
    assert log[-2:] == [("chunk", 3, "attempt 3"), ("done", 3, {"chunks": 1})]


async def test_a_stream_goes_on_after_its_worker_was_killed(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """kill -9 on a system where nothing else happens: another worker starts the task anew, and readers are told."""
    with worker_process(own_url, **QUICK) as one, worker_process(own_url, **QUICK) as other:
        task_id = await start(own_client, "ticks_again", folder=str(folder), to=50, every=[0.04, 0.01])
        await events(own_client, task_id, most=5)
        following = asyncio.create_task(events(own_client, task_id))
        (await holder(own, task_id, [one, other])).kill()
        log = await ended(own, task_id)
        seen = await following

    lost = len(chunks(log, 1))
    assert 5 <= lost < 50
    assert log == [
        *(("chunk", 1, number) for number in range(1, lost + 1)),
        again(2),
        *(("chunk", 2, number) for number in range(1, 51)),
        ("done", 2, {"chunks": 50}),
    ]
    assert [event.id for event in seen] == [str(seq) for seq in range(len(log))]
    assert json.loads(next(event.data for event in seen if event.event == "attempt")) == {"attempt": 2, "keeps": False}
    status = (await own_client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["attempt"], status["chunks"]) == ("done", 2, 50)


async def test_a_function_that_can_continue_goes_on_after_two_kills(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """Readers keep what they have: all chunks together are the whole output, without a gap and without a repeat."""
    with (
        worker_process(own_url, **QUICK) as one,
        worker_process(own_url, **QUICK) as two,
        worker_process(own_url, **QUICK) as three,
    ):
        task_id = await start(own_client, "ticks_on", folder=str(folder), to=60, every=[0.04, 0.04, 0.01])
        following = asyncio.create_task(events(own_client, task_id))
        workers = [one, two, three]

        async def of_its_own(attempt: int) -> list[Any]:
            return chunks(await log_so_far(own_client, task_id), attempt)

        for kills in (1, 2):
            await until(partial(of_its_own, kills), f"attempt {kills} has added something of its own")
            victim = await holder(own, task_id, workers)
            victim.kill()
            workers.remove(victim)
        log = await ended(own, task_id)
        seen = await following

    assert data(seen) == list(range(1, 61))
    assert [mark for mark in log if mark[0] == "attempt"] == [again(2, keeps=True), again(3, keeps=True)]
    assert log[-1] == ("done", 3, {"chunks": 60})
    assert (await own_client.get(f"/tasks/{task_id}")).json()["chunks"] == 60
    assert len(notes(folder, "begun.*")) == 3


async def test_a_log_that_is_lost_between_two_attempts(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """A function that can continue finds nothing to continue from, and begins anew; its reader hears of the gap."""
    with worker_process(own_url, **QUICK) as worker:
        task_id = await start(own_client, "ticks_on", folder=str(folder), to=20, every=[0.05, 0.01])
        await written(own, task_id, 5)
        reader = Reader(own_client, task_id)
        await reader.until(5)
        worker.kill()
        await own.delete(keys.log(task_id))
        seen = await reader.until_end()
        assert seen[-1].event == "gap"
        with worker_process(own_url, **QUICK):
            log = await ended(own, task_id)
    assert [value for event, _, value in log if event == "chunk"] == list(range(1, 21))
    assert log[-1] == ("done", 2, {"chunks": 20})
    assert await log_of(own, task_id) == log


async def log_so_far(client: httpx.AsyncClient, task_id: str) -> list[tuple[str, int, object]]:
    """A task's log, as a page."""
    page = (await client.get(f"/tasks/{task_id}/chunks?limit=1000&wait=1")).json()
    return [(entry["event"], entry["attempt"], entry["data"]) for entry in page["entries"]]


async def test_who_sees_a_chunk_can_rely_on_the_lease(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """From its claim on recovery looks when the lease is over, not when the queue is late."""

    async def seen(task_id: str) -> tuple[Any, Any] | None:
        async with own.pipeline(transaction=True) as at_once:
            at_once.llen(keys.log(task_id))
            at_once.zscore(keys.OPEN, task_id)
            at_once.hget(keys.metadata(task_id), "lease_until")
            chunks, due, lease_until = await at_once.execute()
        return (due, lease_until) if chunks else None

    with worker_process(own_url, **QUICK):
        for _ in range(50):
            task_id = await start(own_client, "count", to=2, every=3_600)
            due, lease_until = await until(partial(seen, task_id), "a chunk", pause_s=0)  # the first moment
            assert due <= int(lease_until) // 1000 + 1
            assert (await own_client.delete(f"/tasks/{task_id}")).status_code == 202
            await ended(own, task_id)
