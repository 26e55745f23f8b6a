"""The log of a cancelled task: it lasts as long as the API says, whatever still looks after the task."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import client_of, events, follow, start
from tests.support.logs import written
from tests.support.processes import Process, api_process, worker_process
from tests.support.settings import BRIEF
from tests.support.tasks import RENEWED_AFTER_THE_END, closed
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Seconds: less than any other lifetime.
KEPT_S: Final = 100


@pytest.fixture
def one_worker(own_url: str) -> Iterator[Process]:
    """A worker of the test's own."""
    with worker_process(own_url, **BRIEF) as worker:
        yield worker


@pytest.fixture
async def own_client(own_url: str, one_worker: Process) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that keeps logs of cancelled tasks for a short time."""
    with api_process(own_url, **BRIEF, TAILRACE_CANCELLED_TTL_S=str(KEPT_S)) as api:
        async with client_of(api) as client:
            yield client


async def cancel(client: httpx.AsyncClient, own: Redis, task_id: str) -> None:
    """Cancel it; from then on its log is kept for a short time."""
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    await assert_kept_shortly(own, task_id)


async def assert_kept_shortly(own: Redis, task_id: str) -> None:
    """Its log is; what it was is known for longer."""
    assert 0 < await own.ttl(keys.log(task_id)) <= KEPT_S < await own.ttl(keys.metadata(task_id))


async def test_a_running_task(own_client: httpx.AsyncClient, own: Redis, one_worker: Process, tmp_path: Path) -> None:
    """Readers get the end, live and later; renewals of a function that cleans up do not prolong the log."""
    task_id = await start(own_client, "lingers", folder=str(tmp_path))
    live = asyncio.create_task(events(own_client, task_id))
    await written(own, task_id, 1)
    await cancel(own_client, own, task_id)
    assert (await live)[-1].event == "cancelled"
    await asyncio.to_thread(one_worker.wait_for, RENEWED_AFTER_THE_END)
    await asyncio.to_thread((tmp_path / "go").touch)
    await closed(own, task_id)
    await assert_kept_shortly(own, task_id)
    assert (await events(own_client, task_id))[-1].event == "cancelled"


async def test_a_function_that_cleans_up_at_its_limit(
    own_client: httpx.AsyncClient, own: Redis, tmp_path: Path
) -> None:
    """Recovery looks at the task while its function holds a place at its limit, and does not prolong the log."""
    place = tmp_path / "place"
    task_id = await start(own_client, "one_at_once", place=str(place), name="a", hold=60, clean_up=3)
    await until(place.exists, "the function has begun")
    await cancel(own_client, own, task_id)
    await own.zadd(keys.OPEN, {task_id: 0}, xx=True)

    async def scheduled() -> bool:
        return await own.zscore(keys.OPEN, task_id) != 0

    await until(scheduled, "recovery has looked at it")
    await assert_kept_shortly(own, task_id)
    await closed(own, task_id)
    await assert_kept_shortly(own, task_id)


async def test_a_log_that_is_gone(own_client: httpx.AsyncClient, own: Redis, tmp_path: Path) -> None:
    """A late reader is told that the task was cancelled, and that its log is not kept any more."""
    task_id = await start(own_client, "lingers", folder=str(tmp_path))
    await written(own, task_id, 1)
    await asyncio.to_thread((tmp_path / "go").touch)
    await cancel(own_client, own, task_id)
    await own.expire(keys.log(task_id), 0)  # as after that time
    answer = await own_client.get(f"/tasks/{task_id}/stream")
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:tailrace:problem:expired")
    assert "cancelled" in answer.json()["detail"]
    await closed(own, task_id)


async def test_a_task_that_is_done(own_client: httpx.AsyncClient, own: Redis) -> None:
    """Its readers have as long as ever."""
    task_id = await start(own_client, "count", to=2)
    assert (await follow(own_client, task_id))[1] == "done"
    await closed(own, task_id)
    assert KEPT_S < await own.ttl(keys.log(task_id)) <= keys.CHUNK_TTL_S
