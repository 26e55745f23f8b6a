"""The system as a whole: the resources that it holds while it runs and leaves behind, and how it ends."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from plugins import keys
from plugins.message import FIELD, Message, encode
from tests.support.canaries import CANARY
from tests.support.client import data, events, follow, start
from tests.support.messages import queue_empty
from tests.support.processes import ROOT, Api, Process, api_process, worker_process
from tests.support.readers import unheard
from tests.support.sockets import unchunked
from tests.support.tasks import closed

pytestmark = pytest.mark.anyio


async def test_the_readme_through_words(client: httpx.AsyncClient, redis: Redis) -> None:
    """A real text, streamed word by word, comes back byte for byte."""
    text = f"{CANARY} {(ROOT / 'README.md').read_text()}"
    chunks, end, _ = await follow(client, await start(client, "words", text=text))

    assert "".join(chunks).encode() == text.encode()
    assert end == "done"
    assert len(chunks) > 500


async def test_nothing_is_left_behind(client: httpx.AsyncClient, apis: list[Api], redis: Redis, tmp_path: Path) -> None:
    """After tasks of every kind, each followed, the queue is empty and no channel has a subscriber."""
    async with httpx.AsyncClient(base_url=apis[1].url, timeout=30) as other:
        ids = [
            await start(client, "count", to=50),
            await start(client, "nothing"),
            await start(client, "raises", after=1, message="no"),
            await start(client, "not_json", after=1, what="object"),
            await start(client, "slow"),
            await start(client, "storm", seed=1, chunks=300),
        ]
        silent = await start(client, "silent", note=str(tmp_path / "note"))
        await events(other, silent, most=1)
        readers = [follow(each, task_id) for task_id in [*ids, silent] for each in (client, other)]
        leaving = [events(other, task_id, most=1) for task_id in ids]
        following = asyncio.gather(*readers, *leaving)
        await client.delete(f"/tasks/{silent}")
        await following

    for task_id in [*ids, silent]:
        await closed(redis, task_id)
        assert await redis.hget(keys.metadata(task_id), "ended_at")
        await unheard(redis, task_id)
    assert await redis.xlen(keys.QUEUE) == 0
    assert (await redis.xpending(keys.QUEUE, keys.QUEUE_GROUP))["pending"] == 0
    assert not [key async for key in redis.scan_iter("autoclaim:*")]


class RawReader:
    """A reader of one stream over a bare socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, url: str, path: str) -> "RawReader":
        """Ask for a stream, and wait until it is open."""
        host, port = url.removeprefix("http://").split(":")
        streams = await asyncio.open_connection(host, int(port))
        streams[1].write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        opened = cls(*streams)
        await opened.reader.readuntil(b": open\n")
        return opened

    async def rest(self) -> bytes:
        """All that comes until the response's end."""
        return await self.reader.readuntil(b"0\r\n\r\n")

    async def until_closed(self) -> bytes:
        """All that comes until the connection's end."""
        return await self.reader.read()

    async def close(self) -> None:
        """Go away."""
        self.writer.close()
        await self.writer.wait_closed()


@pytest.fixture
async def alone(redis_url: str) -> AsyncIterator[Api]:
    """An API process of this test's own."""
    with api_process(redis_url) as api:
        yield api


async def test_a_thousand_readers_cost_three_connections(alone: Api, redis: Redis, worker: Process) -> None:
    """However many readers a process has, Redis sees at most three connections of it; and every reader is served."""
    async with httpx.AsyncClient(base_url=alone.url, timeout=60) as client:
        ids = [await start(client, "count", to=40, every=0.1) for _ in range(10)]
        async with asyncio.timeout(60):
            readers = await asyncio.gather(
                *(RawReader.open(alone.url, f"/tasks/{ids[index % 10]}/stream") for index in range(1_000))
            )
        during = await connections(redis, alone.process.pid)
        async with asyncio.timeout(60):
            streams = await asyncio.gather(*(reader.rest() for reader in readers))
        for reader in readers:
            await reader.close()
        after = await connections(redis, alone.process.pid)

    assert 1 <= len(during) <= 3
    assert 1 <= len(after) <= 3
    numbers = b"".join(b"id: %d\ndata: %d\n\n" % (seq, seq + 1) for seq in range(40))
    bodies = {unchunked(stream.removeprefix(b"\r\n"))[0] for stream in streams}
    assert bodies == {numbers + b'id: 40\nevent: done\ndata: {"chunks":40}\n\n'}


async def connections(redis: Redis, pid: int) -> list[str]:
    """The names of the connections that a process of ours has to Redis."""
    return [each["name"] for each in await redis.client_list() if each["name"].endswith(f"-{pid}")]


async def test_an_api_that_is_told_to_stop_ends_its_streams(redis_url: str, worker: Process, redis: Redis) -> None:
    """SIGTERM: open streams break off with a fresh `retry`, and the process ends; the client goes on elsewhere."""
    with api_process(redis_url) as ending, api_process(redis_url) as staying:
        async with httpx.AsyncClient(base_url=ending.url, timeout=30) as client:
            task_id = await start(client, "count", to=40, every=0.05)
            reader = await RawReader.open(ending.url, f"/tasks/{task_id}/stream")
            await reader.reader.readuntil(b"id: 3\n")
        ending.process.signal(signal.SIGTERM)
        last = await reader.until_closed()
        assert re.search(rb"retry: \d+\n\r\n$", last)
        await reader.close()
        assert await asyncio.to_thread(ending.process.wait) in (0, -signal.SIGTERM)

        seen = int([b"3", *re.findall(rb"id: (\d+)\n", last)][-1])
        async with httpx.AsyncClient(base_url=staying.url, timeout=30) as client:
            assert data(await events(client, task_id, after=str(seen))) == list(range(seen + 2, 41))


async def test_a_worker_that_is_told_to_stop_ends_its_tasks(own_database: str, tmp_path: Path) -> None:
    """SIGTERM: running functions are stopped and clean up, and their streams end with the reason. Nothing hangs."""
    with api_process(own_database) as api, worker_process(own_database, "--wait-tasks-timeout", "0.1") as worker:
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
            note = tmp_path / "note"
            task_id = await start(client, "silent", note=str(note))
            await events(client, task_id, most=1)
            following = asyncio.create_task(follow(client, task_id))
            worker.signal(signal.SIGTERM)
            chunks, end, why = await following
            assert (chunks, end, why["code"]) == ([1], "failed", "interrupted")
            assert await asyncio.to_thread(worker.wait) == 0
            assert note.exists()


async def test_two_workers_share_the_queue(own_database: str) -> None:
    """A worker takes only what it can run: of a queue that waits for two workers with one slot each, both take part."""
    one_slot = ("--max-async-tasks", "1")
    with (
        api_process(own_database) as api,
        worker_process(own_database, *one_slot),
        worker_process(own_database, *one_slot),
    ):
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client, Redis.from_url(own_database) as other:
            ids = [await start(client, "count", to=10, every=0.02) for _ in range(12)]
            assert [(await follow(client, task_id))[0] for task_id in ids] == [list(range(1, 11))] * 12
            by = [await other.hget(keys.metadata(task_id), "worker") for task_id in ids]
            attempts = {await other.hget(keys.metadata(task_id), "attempt") for task_id in ids}

    assert sorted(by.count(worker) for worker in set(by))[0] >= 3, "one worker held what the other could have run"
    assert len(set(by)) == 2
    assert attempts == {b"1"}


async def test_a_message_that_comes_twice_runs_once(client: httpx.AsyncClient, redis: Redis) -> None:
    """The queue may deliver an id again, while its task runs or after: the function runs once."""
    task_id = await start(client, "count", to=10, every=0.05)
    await events(client, task_id, most=1)
    message = queue_message(task_id)
    for _ in range(3):
        await redis.xadd(keys.QUEUE, message)
    assert (await follow(client, task_id))[0] == list(range(1, 11))
    await redis.xadd(keys.QUEUE, message)
    await queue_empty(redis)
    status = (await client.get(f"/tasks/{task_id}")).json()
    assert (status["attempt"], status["chunks"]) == (1, 10)
    assert await redis.llen(keys.log(task_id)) == 11


def queue_message(task_id: str) -> dict[FieldT, EncodableT]:
    """The message that the api puts on the queue for a task."""
    return {FIELD: encode(Message(task_id))}
