"""Redis is away: not there yet, killed and back, back without its data, or silent. Nothing hangs or is restarted."""

import asyncio
import json
import signal
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import client_of, data, events, follow, start, until_ready
from tests.support.files import appeared
from tests.support.outages import (
    BODIES,
    CALLS,
    ID,
    PATIENCE_S,
    assert_told_of_the_loss,
    assert_told_to_come_back,
    assert_unavailable,
    call,
)
from tests.support.processes import api_process, worker_process
from tests.support.readers import Reader, heard, unheard
from tests.support.redis_servers import DURABLE, EmbeddedRedis
from tests.support.settings import ALERT, QUICK
from tests.support.system import assert_a_cancel_is_heard, assert_a_task_runs, assert_never_restarted
from tests.support.tasks import closed
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio


async def test_an_api_that_starts_before_redis(tmp_path: Path) -> None:
    """It starts, says that it lives and is not ready, answers 503 to what needs Redis, and recovers by itself."""
    with EmbeddedRedis() as server:
        server.kill()
        with api_process(server.url) as api:
            async with client_of(api) as client:
                assert (await client.get("/health/live")).status_code == 200
                ready = await client.get("/health/ready")
                assert (ready.status_code, ready.json()["hub"]) == (503, "disconnected")
                for method, path in CALLS:
                    assert_unavailable(await call(client, method, path))
                await assert_told_to_come_back(api.url, ID)

                server.start()
                await until_ready(client)
                with worker_process(server.url):
                    assert await follow(client, await start(client, "count", to=3)) == (
                        [1, 2, 3],
                        "done",
                        {"chunks": 3},
                    )
            assert "Traceback" not in api.process.output


async def test_a_worker_that_starts_before_redis() -> None:
    """It waits for it and then works: the order in which things are started does not matter."""
    knocked = asyncio.Event()

    def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.set()
        writer.close()

    with EmbeddedRedis() as server, ExitStack() as stack:
        server.kill()
        door = await asyncio.start_server(turn_away, "127.0.0.1", server.port)
        starting = asyncio.create_task(asyncio.to_thread(stack.enter_context, worker_process(server.url)))
        async with asyncio.timeout(DEADLINE_S):
            await knocked.wait()
        door.close()
        await door.wait_closed()
        server.start()

        worker = await starting
        with api_process(server.url) as api:
            async with client_of(api) as client:
                await assert_a_task_runs(client)
        assert_never_restarted(worker)


async def test_many_at_once_get_their_503_in_time() -> None:
    """No request queues behind others for a Redis that is down."""
    with EmbeddedRedis() as server:
        server.kill()
        with api_process(server.url) as api:
            async with client_of(api) as client:
                for answer in await asyncio.gather(*(call(client, *each) for each in CALLS * 10)):
                    assert_unavailable(answer)


async def test_a_redis_that_is_silent() -> None:
    """A server that accepts connections and says nothing is as good as none: 503 in time, and then it goes on."""
    with EmbeddedRedis() as server, worker_process(server.url), api_process(server.url) as api:
        async with client_of(api) as client:
            await until_ready(client)
            assert server.process is not None
            server.process.signal(signal.SIGSTOP)
            for answer in await asyncio.gather(*(call(client, *each) for each in CALLS)):
                assert_unavailable(answer)
            async with asyncio.timeout(PATIENCE_S):
                assert (await client.get("/health/ready")).status_code == 503
            assert (await client.get("/health/live")).status_code == 200

            server.process.signal(signal.SIGCONT)
            await until_ready(client)
            await assert_a_task_runs(client)


async def test_an_event_source_that_comes_back_to_a_silent_redis(tmp_path: Path) -> None:
    """It is told to come back, as often as it does; then it gets the rest. A POST for a stream hears what is wrong."""
    sse = {"Accept": "text/event-stream"}
    with EmbeddedRedis() as server, worker_process(server.url), api_process(server.url) as api:
        async with client_of(api) as client:
            task_id = await start(client, "silent", note=str(tmp_path / "note"))
            await events(client, task_id, most=1)
            assert server.process is not None
            server.process.signal(signal.SIGSTOP)
            await asyncio.gather(*(assert_told_to_come_back(api.url, task_id) for _ in range(10)))
            async with asyncio.timeout(PATIENCE_S):
                assert_unavailable(await client.post("/tasks", headers=sse, json=BODIES["/tasks"]))

            server.process.signal(signal.SIGCONT)
            await until_ready(client)
            assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
            assert [event.event for event in await events(client, task_id, after="0")] == ["cancelled"]
            # These two answers are final: a client has no reason to come back.
            unknown = await client.get(f"/tasks/{ID}/stream", headers=sse)
            assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:tailrace:problem:unknown-task")
            async with Redis.from_url(server.url) as redis:
                await closed(redis, task_id)
                await redis.delete(keys.log(task_id))
            expired = await client.get(f"/tasks/{task_id}/stream", headers=sse)
            assert (expired.status_code, expired.json()["type"]) == (410, "urn:tailrace:problem:expired")
        assert "Traceback" not in api.process.output
        assert "ASGI" not in api.process.output


async def test_a_restart_that_nobody_noticed_costs_nobody_an_error() -> None:
    """Connections that died while idle are replaced without an error."""
    with EmbeddedRedis(*DURABLE) as server, worker_process(server.url), api_process(server.url) as api:
        async with client_of(api) as client:
            answers = await asyncio.gather(*(client.get("/functions") for _ in range(20)))
            server.kill()
            server.start()
            again = await asyncio.gather(*(client.get("/functions") for _ in range(20)))

            assert {answer.status_code for answer in answers + again} == {200}


async def test_redis_is_killed_while_a_task_runs_and_is_followed(tmp_path: Path) -> None:
    """The open stream outlives it and goes on to its end, without gap or duplicate; no process has to be restarted."""
    with (
        EmbeddedRedis(*DURABLE) as server,
        worker_process(server.url) as worker,
        api_process(server.url, **ALERT) as api,
    ):
        async with client_of(api) as client:
            task_id = await start(client, "count", to=100, every=0.03)
            reader = Reader(client, task_id)
            await reader.until(10)

            server.kill()
            for method, path in CALLS:
                assert_unavailable(await call(client, method, path))
            await until_ready(client, 503)
            await asyncio.to_thread(api.process.wait_for, "log not read")  # the stream has noticed, too
            assert reader.open
            before = len(reader.seen)
            server.start()

            seen = await reader.until_end()
            assert before < 100, "it had ended before Redis came back"
            assert [event.id for event in seen] == [str(seq) for seq in range(101)]
            assert data(seen) == list(range(1, 101))
            assert (seen[-1].event, json.loads(seen[-1].data)) == ("done", {"chunks": 100})
            assert [event.data for event in await events(client, task_id)] == [event.data for event in seen]

            await until_ready(client)
            assert (await client.get(f"/tasks/{task_id}")).json()["attempt"] == 1
            await assert_a_task_runs(client)
            await assert_a_cancel_is_heard(client, tmp_path / "note")
        assert_never_restarted(worker)
        assert "Traceback" not in api.process.output


async def test_a_long_poll_outlives_an_outage(tmp_path: Path) -> None:
    """A long-poll still gets a new entry, though Redis was down in between."""
    with EmbeddedRedis(*DURABLE) as server, worker_process(server.url), api_process(server.url, **ALERT) as api:
        async with client_of(api) as client:
            task_id = await start(client, "silent", note=str(tmp_path / "note"))
            await events(client, task_id, most=1)
            async with Redis.from_url(server.url) as redis:
                await unheard(redis, task_id)  # the reader before is gone
                poll = asyncio.create_task(client.get(f"/tasks/{task_id}/chunks?after=0&wait=45"))
                await until(lambda: heard(redis, task_id), "the poll waits")
            server.kill()
            await asyncio.to_thread(api.process.wait_for, "log not read")
            server.start()
            await until_ready(client)
            assert not poll.done()

            assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
            async with asyncio.timeout(DEADLINE_S):
                page = (await poll).json()
            assert [entry["event"] for entry in page["entries"]] == ["cancelled"]
            assert (page["next"], page["ended"]) == (1, True)


async def test_redis_comes_back_empty_while_a_task_writes() -> None:
    """The reader is told that entries are lost and how the task ended; the next task runs as if nothing had been."""
    with EmbeddedRedis() as server, worker_process(server.url, **ALERT) as worker, api_process(server.url) as api:
        async with client_of(api) as client:
            reader = Reader(client, await start(client, "count", to=1_000_000, every=0.03))
            await reader.until(10)
            server.kill()
            server.start()

            seen = await reader.until_end()
            assert data(seen) == list(range(1, len(data(seen)) + 1))
            assert_told_of_the_loss(seen)
            await assert_all_is_well(client)
        assert_never_restarted(worker)


async def test_redis_comes_back_empty_while_a_task_is_silent(tmp_path: Path) -> None:
    """A reader does not wait for ever for a task that Redis has forgotten, and the function is stopped."""
    note = tmp_path / "note"
    with (
        EmbeddedRedis() as server,
        worker_process(server.url, **ALERT) as worker,
        api_process(server.url, **ALERT) as api,
    ):
        async with client_of(api) as client:
            reader = Reader(client, await start(client, "silent", note=str(note)))
            await reader.until(1)
            server.kill()
            server.start()

            await assert_all_is_well(client)
            await appeared(note)
            assert_told_of_the_loss(await reader.until_end())
        assert_never_restarted(worker)


async def test_redis_comes_back_empty_and_the_worker_is_gone_too(tmp_path: Path) -> None:
    """No worker is left to end the task: its reader gets `gap` and is disconnected; on return it gets the reason."""
    with EmbeddedRedis() as server, api_process(server.url, **ALERT) as api:
        async with client_of(api) as client:
            with worker_process(server.url) as worker:
                task_id = await start(client, "silent", note=str(tmp_path / "note"))
                reader = Reader(client, task_id)
                await reader.until(1)
                worker.kill()
            server.kill()
            server.start()

            assert_told_of_the_loss(await reader.until_end())
            assert (await client.get(f"/tasks/{task_id}/stream")).status_code == 404


async def assert_all_is_well(client: httpx.AsyncClient) -> None:
    """Functions are announced and a task runs, without an operator."""
    await until_ready(client)

    async def announced() -> bool:
        return (await client.get("/functions/count")).status_code == 200

    await until(announced, "the worker's functions are announced")
    await assert_a_task_runs(client)


async def test_redis_is_full_for_a_while() -> None:
    """A Redis that refuses to write makes the function wait. When there is room again the stream goes on, whole."""
    with EmbeddedRedis() as server, worker_process(server.url, **ALERT) as worker, api_process(server.url) as api:
        async with client_of(api) as client, Redis.from_url(server.url) as redis:
            reader = Reader(client, await start(client, "count", to=300, every=0.01))
            await reader.until(5)
            await redis.config_set("maxmemory", 1)
            await asyncio.to_thread(worker.wait_for, "refused by redis, retrying.*operation=append")
            assert_unavailable(await call(client, "POST", "/tasks"), "redis-full")
            await redis.config_set("maxmemory", 0)

            seen = await reader.until_end()
            assert data(seen) == list(range(1, 301))
            assert seen[-1].event == "done"
        assert_never_restarted(worker)


async def test_redis_refuses_to_write_for_a_while() -> None:
    """Too few replicas, say: tasks wait and go on, requests get 503, and the worker does not start anew."""
    with EmbeddedRedis() as server, worker_process(server.url, **ALERT) as worker, api_process(server.url) as api:
        async with client_of(api) as client, Redis.from_url(server.url) as redis:
            reader = Reader(client, await start(client, "count", to=300, every=0.01))
            await reader.until(5)
            await redis.config_set("min-replicas-to-write", 1)
            await asyncio.to_thread(worker.wait_for, "refused by redis, retrying.*operation=append")
            await asyncio.to_thread(worker.wait_for, "queue not read")
            assert_unavailable(await call(client, "POST", "/tasks"))
            await redis.config_set("min-replicas-to-write", 0)

            assert data(await reader.until_end()) == list(range(1, 301))
            await assert_all_is_well(client)
        assert_never_restarted(worker)


async def test_an_outage_that_is_longer_than_a_lease() -> None:
    """A worker that could not renew because Redis was away is not taken for dead when Redis is back."""
    settings = QUICK | {"TAILRACE_SCAN_S": "0.1"}
    with EmbeddedRedis(*DURABLE) as server, worker_process(server.url, **settings) as worker:
        with api_process(server.url, **settings) as one, api_process(server.url, **settings):
            async with client_of(one) as client:
                ids = [await start(client, "count", to=150, every=0.1) for _ in range(10)]
                readers = [Reader(client, task_id) for task_id in ids]
                for reader in readers:
                    await reader.until(3)
                server.kill()
                async with asyncio.timeout(DEADLINE_S):
                    begun = asyncio.get_running_loop().time()
                    while asyncio.get_running_loop().time() < begun + 3:  # longer than the lease
                        await client.get("/health/live")
                server.start()
                for reader in readers:
                    assert data(await reader.until_end()) == list(range(1, 151))
        assert_never_restarted(worker)
