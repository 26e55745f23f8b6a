"""DELETE with `purge=true`: nothing of the task stays in Redis, and no process that has it brings it back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from plugins import append, entries, keys
from tests.support.client import client_of, data, follow, pause, resume, start
from tests.support.files import left
from tests.support.logs import written
from tests.support.messages import drained
from tests.support.processes import Process, api_process, worker_process
from tests.support.readers import Reader
from tests.support.redis_servers import EmbeddedRedis, Full
from tests.support.settings import BRIEF
from tests.support.tasks import closed, ended
from tests.support.waiting import until
from tests.support.workers import freeze, thaw

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Every call about one task, as its path goes on.
CALLS: Final = [("GET", ""), ("GET", "/stream"), ("GET", "/chunks"), ("GET", "/chunks?wait=5"), ("DELETE", "")]


# How all that a key holds is read, by its type.
READS: Final[dict[bytes, list[Any]]] = {
    b"string": ["GET"],
    b"hash": ["HGETALL"],
    b"list": ["LRANGE", 0, -1],
    b"set": ["SMEMBERS"],
    b"zset": ["ZRANGE", 0, -1],
    b"stream": ["XRANGE", "-", "+"],
}


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def own(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    """A bare client of it."""
    async with Redis.from_url(server.url) as redis:
        yield redis


@pytest.fixture
def one_worker(server: EmbeddedRedis) -> Iterator[Process]:
    """A worker on it."""
    with worker_process(server.url, **BRIEF) as worker:
        yield worker


@pytest.fixture
async def own_client(server: EmbeddedRedis, one_worker: Process) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API on it."""
    with api_process(server.url, **BRIEF) as api:
        async with client_of(api) as client:
            yield client


async def traces(redis: Redis, task_id: str) -> list[str]:
    """The keys in Redis that are of this task, or name it."""
    found = []
    async for key in redis.scan_iter():
        kind: Any = await redis.type(key)
        command, *arguments = READS[kind]
        value = await redis.execute_command(command, key, *arguments)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        if task_id in f"{key!r} {value}":
            found.append(key.decode())
    return found


async def purge(client: httpx.AsyncClient, redis: Redis, task_id: str) -> None:
    """Purge it: every call says from then on that it is unknown, and the list does not have it."""
    answer = await client.delete(f"/tasks/{task_id}?purge=true")
    assert (answer.status_code, answer.content) == (204, b"")
    for method, path in [*CALLS, ("DELETE", "?purge=true")]:
        answer = await client.request(method, f"/tasks/{task_id}{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailrace:problem:unknown-task"), path
    assert task_id not in (await client.get("/tasks")).text


async def test_a_task_that_has_ended(own_client: httpx.AsyncClient, own: Redis) -> None:
    """All of it goes, its key too: the same request with the same key starts another task."""
    key = {"Idempotency-Key": uuid4().hex}
    task_id = await start(own_client, "count", key, to=3)
    await ended(own, task_id)
    other = await start(own_client, "count", to=3)
    await purge(own_client, own, task_id)
    await drained(own)
    assert await traces(own, task_id) == []
    assert await start(own_client, "count", key, to=3) != task_id
    assert (await follow(own_client, other))[1] == "done"


@pytest.mark.parametrize("every", [0.001, 3600])
async def test_a_task_that_runs(own_client: httpx.AsyncClient, own: Redis, tmp_path: Path, every: float) -> None:
    """Its reader gets `cancelled`, its function cleans up, and what the worker still has is written nowhere."""
    task_id = await start(own_client, "ticks", folder=str(tmp_path), to=1_000_000, every=every)
    reader = Reader(own_client, task_id)
    await reader.until(1)
    await purge(own_client, own, task_id)
    seen = await reader.until_end()
    assert [event.event for event in seen if event.event != "message"] in (["cancelled"], ["gap"], [])
    await left(tmp_path, "cleaned.1.*")
    assert (await follow(own_client, await start(own_client, "count", to=1)))[1] == "done"
    await drained(own)
    assert await traces(own, task_id) == []


async def test_a_worker_that_was_not_told(
    own_client: httpx.AsyncClient, own: Redis, one_worker: Process, tmp_path: Path
) -> None:
    """It wakes up with chunks for a purged task: they are refused, no new log begins, and the function stops."""
    task_id = await start(own_client, "ticks", folder=str(tmp_path), to=1_000_000, every=0.01)
    await written(own, task_id, 3)
    freeze(one_worker)
    try:
        for client in await own.client_list():
            if client["sub"] != "0" and client["name"] == "tailrace-worker":
                await own.client_kill_filter(_id=client["id"])
        await purge(own_client, own, task_id)
    finally:
        thaw(one_worker)
    await left(tmp_path, "cleaned.1.*")
    assert (await follow(own_client, await start(own_client, "count", to=1)))[1] == "done"
    assert await traces(own, task_id) == []


async def test_a_queued_task(own_client: httpx.AsyncClient, own: Redis, one_worker: Process) -> None:
    """Its message leaves the queue, though no worker is there to read it."""
    one_worker.stop()
    task_id = await start(own_client, "count", to=3)
    other = await start(own_client, "count", to=3)
    await purge(own_client, own, task_id)
    assert await traces(own, task_id) == []
    assert await own.xlen(keys.QUEUE) == 1
    assert keys.metadata(other) in await traces(own, other)


async def test_a_task_that_is_parked(own_client: httpx.AsyncClient, own: Redis, one_worker: Process) -> None:
    """Its ticket goes with it, and no worker runs it after the resume."""
    await pause(own_client, "count", heard_by=[one_worker])
    task_id = await start(own_client, "count", to=3)

    async def parked() -> bool:
        return bool(await own.zcard(keys.parked("count")))

    await until(parked, "the task is parked")
    await purge(own_client, own, task_id)
    await drained(own)
    assert await traces(own, task_id) == []
    await resume(own_client, "count")
    assert (await follow(own_client, await start(own_client, "count", to=1)))[1] == "done"


async def test_a_task_that_waits_at_its_limit(own_client: httpx.AsyncClient, own: Redis, tmp_path: Path) -> None:
    """It leaves the limit, and so does one that ran; the next one starts."""
    place = str(tmp_path / "place")
    runs, waits, behind = [
        await start(own_client, "one_at_once", place=place, name=name, hold=hold)
        for name, hold in (("a", 3_600), ("b", 3_600), ("c", 0))
    ]
    await until((tmp_path / "place").exists, "the first function has begun")
    await purge(own_client, own, waits)
    await purge(own_client, own, runs)
    assert (await follow(own_client, behind))[:2] == (["c"], "done")
    await closed(own, behind)
    await drained(own)
    assert await traces(own, waits) == await traces(own, runs) == []


async def test_a_full_redis(own_client: httpx.AsyncClient, own: Redis) -> None:
    """A purge needs no room. It makes some: the bytes of the log are free again."""
    task_id = await start(own_client, "bulky", chunks=1_000, size=10_000)
    await ended(own, task_id)
    used = (await own.info("memory"))["used_memory"]
    await Full(own).on()
    await purge(own_client, own, task_id)

    async def freed() -> bool:
        return bool((await own.info("memory"))["used_memory"] < used - 9_000_000)

    await until(freed)
    await Full(own).off()
    assert await traces(own, task_id) == []


async def received_to_the_end(received: AsyncIterator[bytes]) -> None:
    """Read on. The task's end is not in it.

    Raises:
        httpx.RemoteProtocolError: the response broke off.
    """
    last = b""
    async for piece in received:
        last = (last + piece)[-500:]
        assert b"event: done" not in last


async def test_a_reader_in_the_middle_of_the_log(own_client: httpx.AsyncClient, own: Redis) -> None:
    """It is not told that the task is done: its response breaks off before the end, and later it gets 404."""
    task_id = await start(own_client, "bulky", chunks=4_000, size=10_000)
    await ended(own, task_id)
    async with own_client.stream("GET", f"/tasks/{task_id}/stream") as response:
        received = response.aiter_bytes()
        await anext(received)
        await purge(own_client, own, task_id)
        with pytest.raises(httpx.RemoteProtocolError):
            await received_to_the_end(received)


@pytest.mark.parametrize("claim", ["", append.LOST_WORKER])
async def test_an_api_that_has_read_the_task_before(own_client: httpx.AsyncClient, own: Redis, claim: str) -> None:
    """Its cancel, or its recovery, comes too late, and does not begin the log anew."""
    task_id = await start(own_client, "count", to=1)
    await purge(own_client, own, task_id)
    line = entries.encode("cancelled", 0, 0, entries.now_ms(), {"by": "client"})
    script = own.register_script(append.END_WHEN_FULL)
    assert await script(**append.end_arguments(task_id, 0, 0, line, claim=claim)) == append.Refusal.FENCED
    await drained(own)
    assert await traces(own, task_id) == []


async def test_a_key_that_is_another_task_s_by_now(own_client: httpx.AsyncClient, own: Redis) -> None:
    """Purging a task takes nothing from a task that has its key since Redis lost the first reservation."""
    key = {"Idempotency-Key": uuid4().hex}
    first = await start(own_client, "count", key, to=1)
    async for reservation in own.scan_iter("idempotency:*"):
        await own.delete(reservation)
    second = await start(own_client, "count", key, to=1)
    assert second != first
    await ended(own, first)
    await purge(own_client, own, first)
    assert await start(own_client, "count", key, to=1) == second
    assert (await follow(own_client, second))[1] == "done"


async def test_a_flag_that_is_none(own_client: httpx.AsyncClient, own: Redis) -> None:
    """400 that says what is right, and the task is as before; `false` only cancels."""
    task_id = await start(own_client, "count", to=1)
    await ended(own, task_id)
    for value in ("1", "yes", "TRUE", "True", "null"):
        answer = await own_client.delete(f"/tasks/{task_id}?purge={value}")
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:tailrace:problem:invalid-purge")
    for value in ("", "false"):
        assert (await own_client.delete(f"/tasks/{task_id}?purge={value}")).status_code == 200
    assert (await own_client.get(f"/tasks/{task_id}")).status_code == 200


async def test_a_live_reader_is_told(own_client: httpx.AsyncClient, own: Redis, tmp_path: Path) -> None:
    """A reader that keeps up gets the chunks before, and `cancelled` as the end."""
    task_id = await start(own_client, "lingers", folder=str(tmp_path))
    reader = Reader(own_client, task_id)
    await reader.until(1)
    await purge(own_client, own, task_id)
    seen = await reader.until_end()
    assert (data(seen), seen[-1].event) == ([1], "cancelled")
    await asyncio.to_thread((tmp_path / "go").touch)
