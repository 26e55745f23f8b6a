"""Every task ends, whatever died: no reader waits for ever, on a quiet system too, and with no worker alive."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from plugins import append, entries, keys
from tests.support.client import data, events, follow, start
from tests.support.processes import Api, api_process, worker_process
from tests.support.settings import BRIEF
from tests.support.tasks import closed
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.fixture(scope="module")
def own_apis(own_url: str) -> Iterator[list[Api]]:
    """Two APIs on it, which both recover."""
    with worker_process(own_url):
        pass  # what it announced stays
    with api_process(own_url, **BRIEF) as one, api_process(own_url, **BRIEF) as other:
        yield [one, other]


@pytest.fixture
async def own_client(own_apis: list[Api]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the first API."""
    async with httpx.AsyncClient(base_url=own_apis[0].url, timeout=DEADLINE_S) as client:
        yield client


async def test_a_killed_worker(own_url: str, own: Redis, own_client: httpx.AsyncClient, tmp_path: Path) -> None:
    """kill -9 while a stream is open: it ends as `worker_lost`, though no worker is left and nothing else happens."""
    with worker_process(own_url, **BRIEF) as worker:
        task_id = await start(own_client, "silent", note=str(tmp_path / "note"))
        await events(own_client, task_id, most=1)
        following = asyncio.create_task(events(own_client, task_id))
        worker.kill()
        async with asyncio.timeout(DEADLINE_S):
            seen = await following

    assert data(seen) == [1]
    assert (seen[-1].event, json.loads(seen[-1].data)["code"]) == ("failed", "worker_lost")
    assert [event.event for event in seen].count("failed") == 1
    await closed(own, task_id)
    status = (await own_client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["attempt"]) == ("failed", 1)


async def test_a_living_worker_keeps_its_task(own_url: str, own: Redis, own_client: httpx.AsyncClient) -> None:
    """A task that runs for several leases is looked at again and again, and left alone."""
    with worker_process(own_url, **BRIEF):
        task_id = await start(own_client, "count", to=40, every=0.1)
        assert await follow(own_client, task_id) == (list(range(1, 41)), "done", {"chunks": 40})
    await closed(own, task_id)


async def test_a_queue_that_was_lost(own_url: str, own: Redis, own_client: httpx.AsyncClient) -> None:
    """A task whose message got lost is queued again, and runs once."""
    task_id = await start(own_client, "count", to=3)
    await own.delete(keys.QUEUE)
    await own.zadd(keys.OPEN, {task_id: 0})
    with worker_process(own_url, **BRIEF):
        assert await follow(own_client, task_id) == ([1, 2, 3], "done", {"chunks": 3})
    await closed(own, task_id)
    assert (await own_client.get(f"/tasks/{task_id}")).json()["attempt"] == 1


async def test_a_task_that_waits_is_looked_at_ever_more_rarely(own: Redis, own_client: httpx.AsyncClient) -> None:
    """A long queue does not grow by being looked at: each look is after twice the time."""
    task_id = await start(own_client, "count", to=1)
    seconds, _ = await own.time()
    await own.hset(keys.metadata(task_id), "queued_at", (seconds - 1_000) * 1000)
    await own.zadd(keys.OPEN, {task_id: 0})

    async def later() -> bool:
        return (await own.zscore(keys.OPEN, task_id) or 0) >= keys.WAITING + seconds + 990

    await until(later, "the next look is after as long again")
    assert (await own.zscore(keys.OPEN, task_id) or 0) < keys.WAITING + seconds + 1_100
    await own_client.delete(f"/tasks/{task_id}")


async def test_a_task_that_nobody_ever_takes(own: Redis, own_client: httpx.AsyncClient) -> None:
    """After a day without a worker its stream ends as `not_started`."""
    task_id = await start(own_client, "count", to=1)
    following = asyncio.create_task(follow(own_client, task_id))
    seconds, _ = await own.time()
    await own.hset(keys.metadata(task_id), "queued_at", (seconds - keys.TASK_TTL_S) * 1000)
    await own.zadd(keys.OPEN, {task_id: 0})
    async with asyncio.timeout(DEADLINE_S):
        chunks, end, why = await following
    assert (chunks, end, why["code"]) == ([], "failed", "not_started")


async def test_bookkeeping_that_was_left_undone(own: Redis, own_client: httpx.AsyncClient) -> None:
    """A worker that died between the end and its bookkeeping: the log is right, and the rest follows."""
    task_id = await start(own_client, "count", to=1)
    line = entries.encode("done", 1, 0, 1_764_000_000_000, {"chunks": 0})
    assert await own.register_script(append.SCRIPT)(**append.arguments(task_id, 0, 1, line)) == 1
    await own.zadd(keys.OPEN, {task_id: 0})
    await closed(own, task_id)
    assert await own.hget(keys.metadata(task_id), "status") == b"done"
    assert json.loads(await own.hget(keys.metadata(task_id), "end") or b"") == {"chunks": 0}


async def test_a_task_that_is_forgotten(own: Redis, own_apis: list[Api]) -> None:
    """An id whose task is no longer kept does not stay in the index for ever."""
    await own.zadd(keys.OPEN, {"0" * 32: 0})
    await closed(own, "0" * 32)


async def test_a_task_that_has_lost_a_field(own: Redis, own_apis: list[Api]) -> None:
    """A script cannot calculate with what Redis has lost. Recovery handles the task, and all that are due behind it."""
    odd, behind = uuid4().hex, uuid4().hex
    fields: dict[Any, Any] = {"function": "f", "owner": "o", "version": "", "status": "running", "created_at": 1}
    await own.hset(keys.metadata(odd), mapping=fields | {"attempts": 2})
    await own.expire(keys.metadata(odd), 60)
    await own.zadd(keys.OPEN, {odd: 0, behind: 1})
    await closed(own, behind)
    await until(lambda: is_queued(own, odd), "the task is released")
    await own.zrem(keys.OPEN, odd)


async def is_queued(own: Redis, task_id: str) -> bool:
    """Whether its metadata says so."""
    return await own.hget(keys.metadata(task_id), "status") == b"queued"


@pytest.mark.parametrize("kind", ["hash", "part of a hash", "string"])
async def test_a_task_that_nobody_can_read(own: Redis, own_apis: list[Api], kind: str) -> None:
    """Recovery skips metadata that it cannot read, and handles all tasks that are due behind it."""
    odd, behind = uuid4().hex, uuid4().hex
    if kind == "hash":
        fields: dict[Any, Any] = {"function": "f", "owner": "o", "version": "", "status": "queued", "created_at": "now"}
        await own.hset(keys.metadata(odd), mapping=fields)
    elif kind == "part of a hash":
        await own.hset(keys.metadata(odd), "function", "f")
    else:
        await own.set(keys.metadata(odd), "not a hash")
    await own.zadd(keys.OPEN, {odd: 0, behind: 1})
    await closed(own, behind)
    seconds, _ = await own.time()
    assert (await own.zscore(keys.OPEN, odd) or 0) > seconds + 3_000
    await own.zrem(keys.OPEN, odd)
    await own.delete(keys.metadata(odd))
