"""Metadata lost while the log lives, and a log lost while the metadata lives. No reader waits for ever."""

import asyncio
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, events, follow, start
from tests.support.files import left, open_gate
from tests.support.logs import written
from tests.support.messages import drained
from tests.support.processes import worker_process
from tests.support.readers import Reader, heard
from tests.support.settings import QUICK
from tests.support.tasks import ended
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Every call about one task, as its path goes on.
CALLS = [("GET", ""), ("GET", "/stream"), ("GET", "/chunks"), ("GET", "/chunks?wait=5"), ("DELETE", "")]


async def assert_answers(client: httpx.AsyncClient, task_id: str, status: int, type_: str) -> None:
    """Every call but GET of the task says the same, and says why."""
    for method, path in CALLS:
        answer = await client.request(method, f"/tasks/{task_id}{path}")
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:tailrace:problem:{type_}"), (method, path)


@pytest.mark.parametrize("every", [0.02, 3600])
async def test_the_metadata_of_a_running_task(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, every: float
) -> None:
    """The task is unknown from then on. Its function stops, silent or not, and its readers are disconnected."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "ticks", folder=str(folder), to=100_000, every=every)
        reader = Reader(own_client, task_id)
        await written(own, task_id, 1)
        await own.delete(keys.metadata(task_id))
        await left(folder, "cleaned.1.*")
        await assert_answers(own_client, task_id, 404, "unknown-task")
        async with asyncio.timeout(15):
            seen = await reader.until_end()
        assert len(seen) == len(data(seen)) or seen[-1].event == "failed"
        assert data(seen) == list(range(1, len(data(seen)) + 1))

        await until(lambda: forgotten(own, task_id))
        assert (await follow(own_client, await start(own_client, "count", to=2)))[1] == "done"


async def test_the_metadata_of_a_queued_task(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """No worker can run it: its message is dropped, its id forgotten, and its readers are disconnected."""
    task_id = await start(own_client, "count", to=3)
    reader = Reader(own_client, task_id)
    await until(lambda: heard(own, task_id))
    await own.delete(keys.metadata(task_id))
    await assert_answers(own_client, task_id, 404, "unknown-task")
    with worker_process(own_url, **QUICK):
        await drained(own)
        assert (await follow(own_client, await start(own_client, "count", to=2)))[1] == "done"
    async with asyncio.timeout(15):
        assert await reader.until_end() == []
    assert not await own.exists(keys.log(task_id), keys.metadata(task_id))
    await look_now(own, task_id)


async def look_now(own: Redis, task_id: str) -> None:
    """Let recovery look at a task at once, and wait until it has no need to look again."""
    await own.zadd(keys.OPEN, {task_id: 0}, xx=True)
    await until(lambda: forgotten(own, task_id))


async def forgotten(own: Redis, task_id: str) -> bool:
    """Whether recovery is done with this task."""
    return await own.zscore(keys.OPEN, task_id) is None


async def test_the_metadata_of_an_ended_task(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """The API does not serve a log without a known owner."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "count", to=3)
        await ended(own, task_id)
    await own.delete(keys.metadata(task_id))
    await assert_answers(own_client, task_id, 404, "unknown-task")


async def test_the_log_of_an_ended_task(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """The stream is gone, and says so; the state of the task is still known, and there is nothing to cancel."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "count", to=3)
        await ended(own, task_id)
    await own.delete(keys.log(task_id))
    for path in ("/stream", "/chunks", "/chunks?wait=5"):
        answer = await own_client.get(f"/tasks/{task_id}{path}")
        assert (answer.status_code, answer.json()["type"]) == (410, "urn:tailrace:problem:expired")
    status = (await own_client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["chunks"], status["end"]) == ("done", 3, {"chunks": 3})
    answer = await own_client.delete(f"/tasks/{task_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "done")


async def test_the_log_of_a_silent_task(own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path) -> None:
    """Its reader is told of the gap and let go; the task still runs, can be followed again, and can be cancelled."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "ticks", folder=str(folder), to=2, every=3600)
        reader = Reader(own_client, task_id)
        await reader.until(1)
        await own.delete(keys.log(task_id))
        async with asyncio.timeout(15):
            assert [event.event for event in await reader.until_end()] == ["message", "gap"]

        assert (await own_client.get(f"/tasks/{task_id}")).json()["status"] == "running"
        again = asyncio.create_task(events(own_client, task_id))
        assert (await own_client.delete(f"/tasks/{task_id}")).status_code == 202
        assert [event.event for event in await again] == ["cancelled"]
        await left(folder, "cleaned.1.*")


async def test_a_function_that_is_silent_for_longer_than_its_task_is_kept(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path
) -> None:
    """Renewals keep both the log and the metadata; when it speaks again, everything is there."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=3)
        await written(own, task_id, 3)
        shortly = await own.time()
        for key in (keys.log(task_id), keys.metadata(task_id)):
            assert await own.expire(key, 3)

        async def later() -> bool:
            return (await own.time())[0] > shortly[0] + 4

        await until(later)
        open_gate(gate)
        assert await follow(own_client, task_id) == ([0, 1, 2, "after"], "done", {"chunks": 4})


@pytest.mark.parametrize("left_over", [{"uncounted": 0}, {"status": "failed", "end": "{}", "ended_at": 1}], ids=str)
async def test_a_request_is_repeated_for_metadata_that_is_lost_in_part(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, left_over: dict[str, str | int]
) -> None:
    """A worker notes something of a task whose metadata is gone. The client that asks for the task once more, with its
    key, gets one that is there: that is, has a status, and runs unless it has ended.
    """
    headers = {"Idempotency-Key": uuid4().hex}
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "count", headers=headers, to=2)
        await follow(own_client, task_id)
        await ended(own, task_id)
        await own.delete(keys.metadata(task_id), keys.log(task_id))
        await own.hset(keys.metadata(task_id), mapping=left_over)  # type: ignore[arg-type]  # redis-py's own union
        assert await start(own_client, "count", headers=headers, to=2) == task_id

        status = await own_client.get(f"/tasks/{task_id}")
        assert status.status_code == 200, status.text
        assert status.json()["function"] == "count"
        if "status" not in left_over:
            assert (await follow(own_client, task_id))[0] == [1, 2]
        await drained(own)
        await look_now(own, task_id)
