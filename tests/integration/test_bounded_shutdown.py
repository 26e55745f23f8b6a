"""A worker that is told to stop ends in a bounded time, whatever holds it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from services.worker.queue.broker import Queue
from services.worker.queue.slots import Slots
from tests.support.client import events, start
from tests.support.files import appeared
from tests.support.messages import message
from tests.support.processes import FUNCTIONS, Api, Process, api_process, worker_process
from tests.support.proxy import Proxy
from tests.support.redis_servers import EmbeddedRedis
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

# No grace, so that the tests are short: the bounds hold for the time after it.
AT_ONCE: Final = {"TAILRACE_DRAIN_S": "0", "TAILRACE_CLEAN_UP_S": "1"}


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own, that it may stop."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def system(server: EmbeddedRedis) -> AsyncIterator[tuple[Process, httpx.AsyncClient, Api]]:
    """A worker and an API on it."""
    with worker_process(server.url, **AT_ONCE) as worker, api_process(server.url) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            yield worker, client, api


async def ended(worker: Process) -> int:
    """Wait until it has ended, by itself; its exit code."""
    code = await asyncio.to_thread(worker.wait)
    assert "shutdown timed out, forcing exit" not in worker.output
    return code


@pytest.mark.parametrize("function", ["threaded", "blocking"])
async def test_a_function_that_does_not_let_go(
    system: tuple[Process, httpx.AsyncClient, Api], tmp_path: Path, function: str
) -> None:
    """A thread that cannot be stopped, or a loop that is held, keeps no worker from its end."""
    worker, client, _ = system
    note = tmp_path / "note"
    await events(client, await start(client, function, note=str(note)), most=1)
    await appeared(note)
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait) == 0
    assert "shutdown timed out, forcing exit" in worker.output


async def test_a_worker_that_waits_for_redis_to_start(server: EmbeddedRedis) -> None:
    """It can be stopped before it has ever reached Redis."""
    server.kill()
    knocked = asyncio.Event()

    def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.set()
        writer.close()

    door = await asyncio.start_server(turn_away, "127.0.0.1", server.port)
    command = [sys.executable, "-m", "services.worker", "--workers", "1"]
    worker = Process(command, {"REDIS_URL": server.url, "FUNCTIONS_PATH": FUNCTIONS, **AT_ONCE})
    try:
        async with asyncio.timeout(DEADLINE_S):
            await knocked.wait()
        worker.signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) == 0
    finally:
        worker.kill()
        door.close()


async def test_a_worker_that_imports_its_functions(server: EmbeddedRedis, tmp_path: Path) -> None:
    """It can be stopped before it has all of them, also where it would wait for Redis then."""
    server.kill()
    note = tmp_path / "note"
    (tmp_path / "slow.py").write_text(f"import pathlib, time\npathlib.Path({str(note)!r}).touch()\ntime.sleep(4)\n")
    command = [sys.executable, "-m", "services.worker", "--workers", "1"]
    worker = Process(command, {"REDIS_URL": server.url, "FUNCTIONS_PATH": str(tmp_path), **AT_ONCE})
    try:
        await appeared(note)
        worker.signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) == 0
    finally:
        worker.kill()


async def test_redis_is_gone_when_the_worker_is_told_to_stop(
    server: EmbeddedRedis, system: tuple[Process, httpx.AsyncClient, Api]
) -> None:
    """It keeps no worker from its end; leases run out, and recovery does the rest."""
    worker, client, _ = system
    await events(client, await start(client, "eager"), most=1)
    server.kill()
    worker.signal(signal.SIGTERM)
    assert await ended(worker) == 0


async def test_redis_is_frozen_when_the_worker_is_told_to_stop(
    server: EmbeddedRedis, system: tuple[Process, httpx.AsyncClient, Api]
) -> None:
    """The same where it is there, and says nothing."""
    worker, client, _ = system
    await events(client, await start(client, "eager"), most=1)
    assert server.process is not None
    server.process.signal(signal.SIGSTOP)
    worker.signal(signal.SIGTERM)
    assert await ended(worker) == 0


async def test_a_claim_that_is_under_way(server: EmbeddedRedis, system: tuple[Process, httpx.AsyncClient, Api]) -> None:
    """A task that is being claimed when the worker is told to stop does not run in a process that should be gone."""
    worker, client, _ = system
    async with Redis.from_url(server.url) as redis:

        async def given() -> str | None:
            """Freeze the worker and start a task. Return its id if a read under way has its message."""
            os.killpg(worker.pid, signal.SIGSTOP)
            task_id = await start(client, "eager")
            if (await redis.xpending(keys.QUEUE, keys.QUEUE_GROUP))["pending"]:
                return task_id
            os.killpg(worker.pid, signal.SIGCONT)  # it was between two reads: the next one would wait for the pause
            await events(client, task_id)
            return None

        task_id = await until(given)
        await redis.client_pause(60_000, all=False)  # milliseconds; writes only
        os.killpg(worker.pid, signal.SIGCONT)

        async def claiming() -> bool:
            return any(each["cmd"] == "eval" and "b" in each["flags"] for each in await redis.client_list())

        await until(claiming, "the claim waits")
        worker.signal(signal.SIGTERM)
        assert await ended(worker) == 0
        await redis.client_unpause()
        assert await redis.llen(keys.log(task_id)) == 0


async def test_a_read_that_cannot_be_cancelled(server: EmbeddedRedis) -> None:
    """The queue is left all the same: where the cancel of a read is swallowed, the next read is not begun."""
    queue = Queue(server.url, abandoned_s=30, takeover_s=2, slots=Slots(1))
    await queue.startup()
    messages = queue.listen()
    reading = asyncio.ensure_future(anext(messages))
    async with asyncio.timeout(2 * DEADLINE_S), Redis.from_url(server.url) as redis:

        async def waits() -> bool:
            return any(each["cmd"] == "xreadgroup" for each in await redis.client_list())

        await until(waits, "the read waits")
        queue.stop_reading()
        with pytest.raises(StopAsyncIteration):
            await reading
    await messages.aclose()
    await queue.shutdown()


async def test_a_message_that_is_being_dropped(server: EmbeddedRedis) -> None:
    """One that makes no sense is still to be dropped, or gone: acknowledged alone it would lie there for ever."""
    async with Proxy(server.port) as proxy, Redis.from_url(server.url) as redis:
        queue = Queue(proxy.url, abandoned_s=30, takeover_s=2, slots=Slots(1))
        await queue.startup()
        await redis.xadd(keys.QUEUE, {"data": "not a message"})
        proxy.hold_reply(after=b"XACK")
        messages = queue.listen()
        reading = asyncio.ensure_future(anext(messages))

        async def acknowledged() -> bool:
            group, *_ = await redis.xinfo_groups(keys.QUEUE)
            return bool(group["entries-read"]) and group["pending"] == 0

        await until(acknowledged)
        reading.cancel()
        await asyncio.wait([reading])
        assert await redis.xlen(keys.QUEUE) == 0
        await messages.aclose()
        proxy.thaw()
        await queue.shutdown()


async def test_a_queue_that_is_left_in_the_middle_of_a_read(server: EmbeddedRedis) -> None:
    """However the worker ends, it takes no message that arrives afterwards: another worker gets it at once."""
    queue = Queue(server.url, abandoned_s=30, takeover_s=30, slots=Slots(1))
    await queue.startup()
    reading = asyncio.create_task(anext(queue.listen()))

    async def reads() -> bool:
        return bool((await redis.info("clients"))["blocked_clients"])

    async with Redis.from_url(server.url) as redis:
        await until(reads)
        await queue.shutdown()
        await redis.xadd(keys.QUEUE, message("a" * 32, "count"))
        (group,) = await redis.xinfo_groups(keys.QUEUE)
        assert (group["consumers"], group["pending"], group["lag"]) == (0, 0, 1)
        assert reading.done()
