"""Cancel, where a worker of the test's own makes one part of it visible alone."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events, follow, start
from tests.support.files import appeared
from tests.support.messages import queue_empty
from tests.support.processes import Api, api_process, worker_process
from tests.support.settings import NO_RENEWAL

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.fixture(scope="module")
def own_api(own_url: str) -> Iterator[Api]:
    """The API on that database."""
    with api_process(own_url) as api:
        yield api


@pytest.fixture
async def own_client(own_api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that API."""
    async with httpx.AsyncClient(base_url=own_api.url, timeout=30) as client:
        yield client


async def test_the_call_reaches_a_silent_function(
    own_url: str, own_client: httpx.AsyncClient, redis: Redis, tmp_path: Path
) -> None:
    """A function that says nothing stops because it is told, not because its lease was looked at."""
    note = tmp_path / "note"
    with worker_process(own_url, **NO_RENEWAL):
        task_id = await start(own_client, "silent", note=str(note))
        await events(own_client, task_id, most=1)
        await own_client.delete(f"/tasks/{task_id}")
        await appeared(note)


async def test_a_queued_task_is_cancelled(own_url: str, own_client: httpx.AsyncClient, redis: Redis) -> None:
    """A task that waits for a worker ends at once, and no worker runs it later."""
    with worker_process(own_url):
        pass  # what it announced stays
    task_id = await start(own_client, "count", to=3)
    assert (await own_client.get(f"/tasks/{task_id}")).json()["status"] == "queued"
    async with Redis.from_url(own_url) as own:
        assert 0 < await own.ttl(keys.metadata(task_id)) <= keys.TASK_TTL_S
        following = asyncio.create_task(follow(own_client, task_id))
        answer = await own_client.delete(f"/tasks/{task_id}")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        assert await following == ([], "cancelled", {"by": "client"})

        with worker_process(own_url):
            await queue_empty(own)
    status = (await own_client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["attempt"], status["started_at"]) == ("cancelled", 0, None)
