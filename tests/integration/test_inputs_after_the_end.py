"""The input of a task: it lasts as long as an attempt may need it, and after the end only as long as the API says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys, metadata
from tests.support.client import client_of, events, follow, pause, resume, start
from tests.support.logs import log_of, written
from tests.support.processes import Process, api_process, worker_process
from tests.support.settings import BRIEF
from tests.support.tasks import RENEWED_AFTER_THE_END, closed
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Seconds: none of the lifetimes that a task's other keys have.
KEPT_S: Final = 100


@pytest.fixture
def one_worker(own_url: str) -> Iterator[Process]:
    """A worker of the test's own."""
    with worker_process(own_url, **BRIEF) as worker:
        yield worker


@asynccontextmanager
async def keeping(url: str, seconds: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that keeps inputs for so long after the end."""
    with api_process(url, **BRIEF, TAILRACE_INPUT_TTL_S=str(seconds)) as api:
        async with client_of(api) as client:
            yield client


async def done(client: httpx.AsyncClient, own: Redis, worker: Process, folder: Path) -> str:
    """A worker writes the end."""
    task_id = await start(client, "count", to=2)
    assert await follow(client, task_id) == ([1, 2], "done", {"chunks": 2})
    return task_id


async def failed(client: httpx.AsyncClient, own: Redis, worker: Process, folder: Path) -> str:
    """A worker writes the end of the third attempt; each attempt needs the input."""
    task_id = await start(client, "fails_at_first", times=3)
    assert (await events(client, task_id))[-1].event == "failed"
    assert {attempt for _, attempt, _ in await log_of(own, task_id)} == {1, 2, 3}
    return task_id


async def cancelled(client: httpx.AsyncClient, own: Redis, worker: Process, folder: Path) -> str:
    """The API writes the end, beside a function that still cleans up while its worker renews its lease."""
    task_id = await start(client, "lingers", folder=str(folder))
    await written(own, task_id, 1)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    await asyncio.to_thread(worker.wait_for, RENEWED_AFTER_THE_END)
    await asyncio.to_thread((folder / "go").touch)
    return task_id


async def lost(client: httpx.AsyncClient, own: Redis, worker: Process, folder: Path) -> str:
    """Recovery writes the end: the worker is dead."""
    task_id = await start(client, "silent", note=str(folder / "note"))
    await written(own, task_id, 1)
    worker.kill()
    end = (await events(client, task_id))[-1]
    assert (end.event, json.loads(end.data)["code"]) == ("failed", "worker_lost")
    return task_id


Ending = Callable[[httpx.AsyncClient, Redis, Process, Path], Awaitable[str]]
ENDINGS: Final[list[Ending]] = [done, failed, cancelled, lost]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
@pytest.mark.parametrize("seconds", [KEPT_S, 0])
async def test_an_input_outlives_its_task_as_long_as_the_api_says(
    own_url: str, own: Redis, one_worker: Process, tmp_path: Path, ending: Ending, seconds: int
) -> None:
    """Prompts are gone when the operator says, whichever service ends the task. Its state is known for a day."""
    async with keeping(own_url, seconds) as client:
        task_id = await ending(client, own, one_worker, tmp_path)
        await closed(own, task_id)
    left = await own.ttl(keys.task_input(task_id))
    assert left == -2 if seconds == 0 else 0 < left <= seconds
    assert KEPT_S < await own.ttl(keys.metadata(task_id)) <= keys.TASK_TTL_S
    assert not await own.hexists(keys.metadata(task_id), metadata.INPUT)


async def test_a_queued_task_that_is_cancelled_leaves_no_input(own_url: str, own: Redis) -> None:
    """The API ends it without any worker."""
    with worker_process(own_url):
        pass  # what it announced stays
    async with keeping(own_url, 0) as client:
        task_id = await start(client, "count", to=2)
        assert 0 < await own.ttl(keys.task_input(task_id)) <= keys.TASK_TTL_S
        assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    assert not await own.exists(keys.task_input(task_id))


async def test_a_task_that_runs_for_longer_than_its_input_is_kept(
    own_url: str, own: Redis, one_worker: Process, tmp_path: Path
) -> None:
    """Renewals keep the input for a next attempt."""
    async with keeping(own_url, 0) as client:
        task_id = await start(client, "lingers", folder=str(tmp_path))
        await written(own, task_id, 1)
        await own.expire(keys.task_input(task_id), DEADLINE_S)

        async def renewed() -> bool:
            return await own.ttl(keys.task_input(task_id)) > DEADLINE_S

        await until(renewed)
        await asyncio.to_thread((tmp_path / "go").touch)
        await client.delete(f"/tasks/{task_id}")
        await closed(own, task_id)


async def test_a_task_of_the_release_before(own_url: str, own: Redis, one_worker: Process) -> None:
    """It has its input among its metadata, and runs as ever."""
    async with keeping(own_url, 0) as client:
        await pause(client, "count", heard_by=[one_worker])
        task_id = await start(client, "count", to=2)
        task_input = await own.getdel(keys.task_input(task_id))
        assert task_input is not None
        await own.hset(keys.metadata(task_id), metadata.INPUT, task_input)
        await own.hdel(keys.metadata(task_id), metadata.INPUT_TTL)
        await resume(client, "count")
        assert await follow(client, task_id) == ([1, 2], "done", {"chunks": 2})
        await closed(own, task_id)


async def test_an_input_that_redis_has_lost_alone(own_url: str, own: Redis, one_worker: Process) -> None:
    """Readers are told why the task cannot run; no function begins without its input."""
    async with keeping(own_url, 0) as client:
        await pause(client, "count", heard_by=[one_worker])
        task_id = await start(client, "count", to=2)
        await own.delete(keys.task_input(task_id))
        await resume(client, "count")
        chunks, event, end = await follow(client, task_id)
        assert (chunks, event, end["code"]) == ([], "failed", "input_lost")
        await closed(own, task_id)
