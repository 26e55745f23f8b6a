"""The kill switch: a paused function is not started, whatever brings its tasks to a worker, until it is resumed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT
from taskiq import TaskiqMessage

from plugins import keys
from tests.support.client import follow, pause, resume, start, status_of
from tests.support.files import left, notes, open_gate
from tests.support.logs import written
from tests.support.messages import drained, message, raw
from tests.support.processes import api_process, worker_process
from tests.support.redis_servers import EmbeddedRedis, Full
from tests.support.settings import NO_RENEWAL, QUICK
from tests.support.tasks import ended, note
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

ONE_AT_A_TIME = ("--max-async-tasks", "1")


async def held(redis: Redis, function: str, many: int) -> None:
    """Wait until so many tasks of a function are held, and the queue is empty."""

    async def so_many() -> bool:
        return await redis.zcard(keys.parked(function)) == many

    await until(so_many)
    await drained(redis)


@pytest.fixture
async def own(own: Redis) -> AsyncIterator[Redis]:
    """That client; before and after the test nothing is paused."""
    yield own
    await own.delete(keys.PAUSED)


async def test_a_paused_function(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path, folder: Path, gate: Path
) -> None:
    """Its new tasks wait. Running tasks go on, and other functions run. Resumed, the waiting tasks start in order."""
    file = tmp_path / "lines"
    with worker_process(own_url, *ONE_AT_A_TIME, **QUICK) as worker:
        for _ in range(2):
            await pause(own_client, "lines_up", heard_by=[worker])
        ids = [await start(own_client, "lines_up", file=str(file), line=str(number)) for number in range(20)]
        await held(own, "lines_up", 20)
        assert {(await status_of(own_client, task_id))["status"] for task_id in ids} == {"queued"}
        listed = {each["name"]: each["paused"] for each in (await own_client.get("/functions")).json()["functions"]}
        assert [name for name, paused in listed.items() if paused] == ["lines_up"]
        assert (await own_client.get("/functions/count")).json()["paused"] is False

        running = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=1)
        await written(own, running, 1)
        await pause(own_client, "waits", heard_by=[worker])
        open_gate(gate)
        assert (await follow(own_client, running))[1] == "done"
        await resume(own_client, "waits")
        assert not await asyncio.to_thread(file.exists)

        for _ in range(2):
            await resume(own_client, "lines_up")
        for task_id in ids:
            assert (await follow(own_client, task_id))[1] == "done"
        await ended(own, ids[-1])
        assert not await own.exists(keys.parked("lines_up"))
    assert (await asyncio.to_thread(file.read_text)).split() == [str(number) for number in range(20)]


async def test_tasks_that_wait_on_the_queue_when_the_function_is_paused(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path
) -> None:
    """A worker that comes later starts none of them; then they start in the order in which they were submitted, those
    before the pause first.
    """
    file = tmp_path / "lines"
    ids = [await start(own_client, "lines_up", file=str(file), line=str(number)) for number in range(5)]
    await pause(own_client, "lines_up", heard_by=[])
    ids += [await start(own_client, "lines_up", file=str(file), line=str(number)) for number in range(5, 10)]
    with worker_process(own_url, **QUICK):  # it meets them all at once
        await held(own, "lines_up", 10)
    assert not await asyncio.to_thread(file.exists)
    await resume(own_client, "lines_up")
    with worker_process(own_url, *ONE_AT_A_TIME, **QUICK):
        for task_id in ids:
            await ended(own, task_id)
    assert (await asyncio.to_thread(file.read_text)).split() == [str(number) for number in range(10)]


async def test_another_attempt_of_a_paused_function(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """A task of a lost worker gets another attempt, which waits until the function is resumed."""
    with worker_process(own_url, **QUICK) as worker:
        task_id = await start(own_client, "ticks_again", folder=str(folder), to=2, every=[3600, 0])
        await written(own, task_id, 1)
        await pause(own_client, "ticks_again", heard_by=[worker])
        worker.kill()
    with worker_process(own_url, **QUICK):
        await held(own, "ticks_again", 1)
        assert len(notes(folder, "begun.*")) == 1
        await resume(own_client, "ticks_again")
        assert (await ended(own, task_id))[-1][:2] == ("done", 2)


async def test_a_paused_function_with_limits(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path
) -> None:
    """Attempts that its limit admits are parked, whichever process enqueued them. Others wait at the limit. Resumed,
    they run one at a time, in order.
    """
    place = tmp_path / "place"
    with worker_process(own_url, **QUICK) as worker:
        await pause(own_client, "one_at_once", heard_by=[worker])
        ids = [
            await start(own_client, "one_at_once", place=str(place), name=str(n), hold=0 if n else 3_600)
            for n in range(5)
        ]
        await held(own, "one_at_once", 1)
        assert not await asyncio.to_thread(place.exists)
        await resume(own_client, "one_at_once")
        await until(lambda: asyncio.to_thread(place.exists))

        await pause(own_client, "one_at_once", heard_by=[worker])
        await own_client.delete(f"/tasks/{ids[0]}")  # its worker lets the next one in
        await held(own, "one_at_once", 1)
        assert len((await asyncio.to_thread(place.read_text)).splitlines()) == 2
        await resume(own_client, "one_at_once")
        for task_id in ids[1:]:
            assert (await ended(own, task_id))[-1][0] == "done"
    lines = (await asyncio.to_thread(place.read_text)).splitlines()
    assert [line.split()[:2] for line in lines] == [[what, str(n)] for n in range(5) for what in "+-"]


async def test_a_task_that_is_cancelled_while_its_function_is_paused(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """It ends there and then, and is not begun when the function is resumed."""
    with worker_process(own_url, **QUICK) as worker:
        await pause(own_client, "ticks", heard_by=[worker])
        ids = [await start(own_client, "ticks", folder=str(folder), to=1, every=0) for _ in range(2)]
        await held(own, "ticks", 2)
        assert (await own_client.delete(f"/tasks/{ids[0]}")).json()["status"] == "cancelled"
        await ended(own, ids[0])
        await resume(own_client, "ticks")
        await ended(own, ids[1])
        await asyncio.to_thread(worker.wait_for, f"claim refused, message dropped +task_id={ids[0]}")
    assert len(notes(folder, "begun.*")) == 1


async def test_whoever_resumes_dies_halfway(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """The mark is gone and no message was published: the workers find out, and start the tasks that have waited."""
    with worker_process(own_url, **QUICK) as worker:
        await pause(own_client, "ticks", heard_by=[worker])
        task_id = await start(own_client, "ticks", folder=str(folder), to=1, every=0)
        await held(own, "ticks", 1)
        await own.srem(keys.PAUSED, "ticks")
        assert (await ended(own, task_id))[-1][0] == "done"


async def test_whoever_holds_a_task_dies_halfway(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """A worker has put a task among those that wait, and died before its message was off the queue: it runs once."""
    task_id = await note(own, "ticks", folder=str(folder), to=1, every=1)
    await own.zadd(keys.OPEN, {task_id: 2_000_000_000})
    await own.zadd(keys.parked("ticks"), {f"{task_id}:0": 1})
    await own.expire(keys.parked("ticks"), 600)
    await own.xadd(keys.QUEUE, message(task_id, function="ticks"))
    with worker_process(own_url, **QUICK):
        assert (await ended(own, task_id))[-1][0] == "done"
        await held(own, "ticks", 0)
    assert len(notes(folder, "begun.*")) == 1


async def test_resumed_it_starts_at_once(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """Its worker is told, and does not first wait for something new on the queue, nor for a beat."""
    with worker_process(own_url, **NO_RENEWAL) as worker:
        for _ in range(5):
            await pause(own_client, "count", heard_by=[worker])
            task_id = await start(own_client, "count", to=1)
            await held(own, "count", 1)
            await resume(own_client, "count")
            async with asyncio.timeout(1):  # seconds; a blocking read takes 2, a beat 600
                assert (await follow(own_client, task_id))[1] == "done"
            await ended(own, task_id)


async def test_a_full_redis_can_be_told(own_client: httpx.AsyncClient, own: Redis, full: Full) -> None:
    """A function may be paused because it has filled Redis."""
    await full.on()
    await pause(own_client, "heavy", heard_by=[])
    await full.off()
    await resume(own_client, "heavy")


async def test_a_function_that_there_is_not(own_client: httpx.AsyncClient, own: Redis) -> None:
    """404, and where the names are. The mark of one that was removed can be taken off all the same."""
    await own.sadd(keys.PAUSED, "gone")
    for method, name in (("PUT", "never"), ("DELETE", "gone")):
        answer = await own_client.request(method, f"/functions/{name}/paused")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailrace:problem:unknown-function")
        assert "GET /functions" in answer.json()["detail"]
    assert not await own.exists(keys.PAUSED)


async def test_everything_restarts(folder: Path) -> None:
    """Redis with its data, the API, the worker: the function is still paused, its tasks still wait; then they run."""
    with EmbeddedRedis("--appendonly", "yes", "--appendfsync", "always") as server:
        with worker_process(server.url, **QUICK) as worker, api_process(server.url, **QUICK) as api:
            async with client_of(api.url) as client, Redis.from_url(server.url) as redis:
                await pause(client, "ticks", heard_by=[worker])
                task_id = await start(client, "ticks", folder=str(folder), to=1, every=0)
                await held(redis, "ticks", 1)
        server.kill()
        server.start()
        with worker_process(server.url, **QUICK), api_process(server.url, **QUICK) as api:
            async with client_of(api.url) as client, Redis.from_url(server.url) as redis:
                assert (await client.get("/functions/ticks")).json()["paused"] is True
                later = await start(client, "ticks", folder=str(folder), to=1, every=0)
                await held(redis, "ticks", 2)
                assert (await status_of(client, task_id))["status"] == "queued"
                await resume(client, "ticks")
                for each in (task_id, later):
                    assert (await follow(client, each))[1] == "done"
            await left(folder, "begun.*", 2)


def client_of(url: str) -> httpx.AsyncClient:
    """A client of this API."""
    return httpx.AsyncClient(base_url=url, timeout=DEADLINE_S)


async def test_messages_that_make_no_sense_take_no_slots(
    own_url: str, own_client: httpx.AsyncClient, own: Redis
) -> None:
    """A worker that dropped them takes up what was held as soon as it may."""
    odd: list[dict[FieldT, EncodableT]] = [
        {"data": "not a message"},
        raw(TaskiqMessage(task_id="x", task_name="no_such_task", labels={}, args=[], kwargs={})),
        raw(TaskiqMessage(task_id="x", task_name="run", labels={"a": "b"}, labels_types={"a": 99}, args=[], kwargs={})),
    ]
    with worker_process(own_url, *ONE_AT_A_TIME, **NO_RENEWAL) as worker:
        for each in odd:
            await own.xadd(keys.QUEUE, each)
        await drained(own)
        await pause(own_client, "count", heard_by=[worker])
        task_id = await start(own_client, "count", to=2)
        await held(own, "count", 1)
        await resume(own_client, "count")
        async with asyncio.timeout(DEADLINE_S):
            assert await follow(own_client, task_id) == ([1, 2], "done", {"chunks": 2})


async def test_what_was_held_for_too_long_is_forgotten(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """Tasks that are not kept any more do not stay in the set of a function that is paused for weeks."""
    with worker_process(own_url, *ONE_AT_A_TIME, **QUICK) as worker:
        await pause(own_client, "count", heard_by=[worker])
        await own.zadd(keys.parked("count"), {f"{number:032x}:1": number + 1 for number in range(3)})
        task_id = await start(own_client, "count", to=2)
        await held(own, "count", 1)
        await resume(own_client, "count")
        assert await follow(own_client, task_id) == ([1, 2], "done", {"chunks": 2})


async def test_a_paused_function_whose_name_is_no_text(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """A name that another program has added keeps no worker from starting, and no task from running."""
    await own.sadd(keys.PAUSED, b"\xff")
    with worker_process(own_url, **QUICK) as worker:
        assert (await follow(own_client, await start(own_client, "count", to=1)))[1] == "done"
        assert "Traceback" not in worker.output
