"""A Redis that is nearly full: it takes no new task, and everything that runs goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from services.api.tasks.memory import used_share
from tests.support.client import client_of, follow, start
from tests.support.files import open_gate
from tests.support.logs import written
from tests.support.messages import drained
from tests.support.processes import Api, api_process, worker_process
from tests.support.readers import Reader
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import QUICK
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Bytes that Redis holds already: much more than a test adds.
FILLED: Final = 40_000_000
FILLER: Final = "filler"

NEARLY_FULL: Final = "redis is nearly full"
ROOM_AGAIN: Final = "redis has room again"


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def own(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    """A bare client of it. It holds much already."""
    async with Redis.from_url(server.url) as redis:
        await redis.set(FILLER, b"x" * FILLED, ex=keys.TASK_TTL_S)
        yield redis


@pytest.fixture
def api(server: EmbeddedRedis, own: Redis) -> Iterator[Api]:
    """An API and a worker on it."""
    with worker_process(server.url, **QUICK), api_process(server.url, **QUICK) as api:
        yield api


@pytest.fixture
async def own_client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that API."""
    async with client_of(api) as client:
        yield client


async def memory(client: httpx.AsyncClient) -> tuple[int, str]:
    """The status of /health/ready, and the state of the memory in it."""
    answer = await client.get("/health/ready")
    return answer.status_code, answer.json()["memory"]


async def fill(client: httpx.AsyncClient, redis: Redis) -> None:
    """Let Redis use nine tenths of its memory, and wait until the API knows."""
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", int(used / 0.9))

    async def known() -> bool:
        return (await memory(client))[1].startswith("full: ")

    await until(known)


async def empty(client: httpx.AsyncClient, redis: Redis) -> None:
    """Make room, and wait until the API knows."""
    await redis.delete(FILLER)

    async def known() -> bool:
        return await memory(client) == (200, "ok")

    await until(known)


async def test_what_runs_goes_on(own_client: httpx.AsyncClient, own: Redis, api: Api, tmp_path: Path) -> None:
    """A live stream gets its chunks and its end; a known key gets its task; cancels and purges work. A new task is
    refused, leaves nothing behind, and is accepted when there is room again. The log says each change once.
    """
    gate, key = tmp_path / "gate", {"Idempotency-Key": uuid4().hex}
    assert await memory(own_client) == (200, "ok")
    known = await start(own_client, "ticks_until", key, gate=str(gate), every=0.05)
    reader = Reader(own_client, known)
    await reader.until(1)
    silent = [await start(own_client, "ticks", folder=str(tmp_path), to=9, every=3_600) for _ in range(2)]
    for task_id in silent:
        await written(own, task_id, 1)
    await fill(own_client, own)

    stored = {key async for key in own.scan_iter()}
    for headers in ({}, {"Idempotency-Key": uuid4().hex}, {"Accept": "text/event-stream"}):
        body = {"function": "count", "input": {"to": 1}}
        answer = await own_client.post("/tasks", json=body, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:tailrace:problem:redis-full")
        assert int(answer.headers["Retry-After"]) > 0
    assert {key async for key in own.scan_iter()} <= stored | {keys.QUEUE.encode(), keys.BROKEN.encode()}

    assert await start(own_client, "ticks_until", key, gate=str(gate), every=0.05) == known
    await reader.until(3)
    assert (await own_client.delete(f"/tasks/{silent[0]}")).status_code == 202
    assert (await own_client.delete(f"/tasks/{silent[1]}?purge=true")).status_code == 204
    assert (await memory(own_client))[0] == 200
    open_gate(gate)
    assert (await reader.until_end())[-1].event == "done"
    await empty(own_client, own)
    assert await follow(own_client, await start(own_client, "count", to=1)) == ([1], "done", {"chunks": 1})
    await drained(own)
    assert (api.process.output.count(NEARLY_FULL), api.process.output.count(ROOM_AGAIN)) == (1, 1)


async def test_a_redis_that_is_full_before_the_api_knows(own_client: httpx.AsyncClient, own: Redis, api: Api) -> None:
    """Redis refuses the task itself, and the client is told the same."""
    await own.config_set("maxmemory", 1)
    answer = await own_client.post("/tasks", json={"function": "count", "input": {"to": 1}})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tailrace:problem:redis-full")
    await own.config_set("maxmemory", 0)
    await asyncio.to_thread(api.process.wait_for, "Uvicorn running")


@pytest.mark.parametrize(
    ("info", "share"),
    [
        ({"maxmemory": 0, "maxmemory_policy": "noeviction"}, 0),
        ({"maxmemory": 200, "maxmemory_policy": "noeviction"}, 0.5),
        ({"maxmemory": 200, "maxmemory_policy": "noeviction", "mem_not_counted_for_evict": 50}, 0.25),
        ({"maxmemory": 200, "maxmemory_policy": "allkeys-lru"}, 0),
        ({"maxmemory": 200, "maxmemory_policy": "volatile-ttl"}, 0),
        ({}, 0),
        ({"maxmemory": 200}, 0.5),
    ],
    ids=str,
)
def test_what_counts(info: dict[str, Any], share: float) -> None:
    """Only a Redis with a bound that refuses writes can be full; what it does not count, is not counted."""
    assert used_share({"used_memory": 100} | info) == share
