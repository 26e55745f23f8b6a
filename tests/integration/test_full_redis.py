"""Ends on a Redis that is full: they need no room, and no task waits behind one that does."""

import asyncio
import json
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events
from tests.support.logs import written
from tests.support.processes import Api, api_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import BRIEF
from tests.support.tasks import closed
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

LONG_AGO: Final = 1_000_000_000_000
FAR_OFF: Final = 9_999_999_999_999

# Tasks before a lost one in the index, by what recovery would have to write for them.
HEADS: Final[dict[str, dict[str, Any]]] = {
    "it runs, and is to be looked at later": {"lease_until": FAR_OFF},
    "it is lost, and to be tried again": {"attempts": 3},
    "it waits, and is to be queued again": {"status": "queued", "queued_at": FAR_OFF},
}


@pytest.fixture
async def full() -> AsyncIterator[tuple[Redis, Api]]:
    """A Redis of the test's own, and an API on it that looks often."""
    with EmbeddedRedis() as server, api_process(server.url, **BRIEF) as api:
        async with Redis.from_url(server.url) as redis:
            yield redis, api


async def noted(redis: Redis, due: int, **fields: Any) -> str:
    """A task as a worker that died long ago left it, but for these fields."""
    task_id = token_hex(16)
    left: dict[Any, Any] = {"status": "running", "attempt": 1, "attempts": 1, "claim": "x", "lease_until": LONG_AGO}
    left |= {"function": "f", "version": "", "input": "{}", "owner": "anonymous", "created_at": LONG_AGO}
    await redis.hset(keys.metadata(task_id), mapping=left | fields)
    await redis.expire(keys.metadata(task_id), keys.TASK_TTL_S)
    await redis.zadd(keys.OPEN, {task_id: due})
    return task_id


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_a_task_that_needs_room_keeps_nobody_waiting(full: tuple[Redis, Api], head: dict[str, Any]) -> None:
    """The stream of a lost task ends though Redis is full, and though another task is due that only room would help."""
    redis, api = full
    async with redis.pipeline(transaction=True) as pipeline:  # full before recovery sees either of them
        await noted(pipeline, 1, **head)
        lost = await noted(pipeline, 2)
        pipeline.config_set("maxmemory", 1)
        await pipeline.execute()

    async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client, asyncio.timeout(DEADLINE_S):
        seen = await events(client, lost)
    assert (seen[-1].event, json.loads(seen[-1].data)["code"]) == ("failed", "worker_lost")


async def test_what_waits_for_room_goes_on_when_there_is_some(full: tuple[Redis, Api]) -> None:
    """A task that could not be queued is, a scan later, and its end is noted at last."""
    redis, api = full
    async with redis.pipeline(transaction=True) as pipeline:
        waiting = await noted(pipeline, 1, status="queued", queued_at=FAR_OFF)
        lost = await noted(pipeline, 2)
        pipeline.config_set("maxmemory", 1)
        await pipeline.execute()
    await asyncio.to_thread(api.process.wait_for, f"task not recovered.*redis is full.*{waiting}")
    await written(redis, lost, 1)

    await redis.config_set("maxmemory", 0)
    await until(lambda: redis.xlen(keys.QUEUE), "a message on the queue")
    await closed(redis, lost)
    assert await redis.hget(keys.metadata(lost), "status") == b"failed"
