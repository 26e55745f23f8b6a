"""A hub whose connection keeps breaking, with hundreds of readers; and one whose own task dies."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import BlockingConnectionPool, Connection, Redis

from plugins import keys
from services.api.redis_client import subscriber_pool_of
from services.api.settings import Settings
from services.api.streams.formats import NDJSON
from services.api.streams.hub import Hub
from services.api.streams.reader import Reader
from tests.support.client import data, start, until_ready
from tests.support.log_writer import Writer, queued
from tests.support.processes import Process, worker_process
from tests.support.proxy import Proxy, subscribed
from tests.support.readers import Reader as EventReader
from tests.support.seeds import seed
from tests.support.settings import NEVER_S, NO_HEARTBEAT
from tests.support.system import proxy_of
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

STREAMS: Final = 20
READERS: Final = 500


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    """Between the hub and Redis."""
    async with proxy_of(redis_url) as proxy:
        yield proxy


class Follower:
    """A reader that collects, until it is closed."""

    def __init__(self, hub: Hub, writer: Writer, cursor: int) -> None:
        self.writer = writer
        self.cursor = cursor
        self.lines: list[bytes] = []
        self._hub = hub
        self._reader: Reader = hub.open(queued(writer.task_id), NDJSON, cursor, lambda: None)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            self.lines += (await self._reader.read()).splitlines()

    @property
    def expected(self) -> list[bytes]:
        """All it should have by now."""
        return self.writer.lines[self.cursor :]

    async def close(self) -> None:
        """Leave, as a client does: at any moment."""
        while not self._reading.done():
            self._reading.cancel()  # Python 3.11's wait_for, which redis-py uses to send, may swallow one
            await asyncio.wait([self._reading], timeout=1)
        assert self._reading.cancelled()
        self._hub.close(self._reader)
        assert self.lines == self.expected[: len(self.lines)]


async def subscriptions(redis: Redis, writers: list[Writer]) -> dict[str, int]:
    """How often each stream is heard, by Redis' own count."""
    counted: Any = await redis.pubsub_numsub(*(keys.channel(writer.task_id) for writer in writers))
    return {channel.decode(): count for channel, count in counted if count}


async def until_subscribed(redis: Redis, writers: list[Writer], wanted: dict[str, int]) -> None:
    """Wait until Redis has these subscriptions, and no other of these streams'."""

    async def are() -> bool:
        return await subscriptions(redis, writers) == wanted

    await until(are)


async def test_readers_that_come_and_go_while_the_connection_breaks(proxy: Proxy, redis: Redis) -> None:
    """Five hundred readers at random instants: those that stay get every entry; no subscription outlives them."""
    drawn = seed("STORM_SEED")
    print(f"STORM_SEED={drawn}")
    dice = random.Random(drawn)
    writers = [Writer(redis) for _ in range(STREAMS)]
    followers: list[Follower] = []
    # As the product's: a call that finds no free connection waits for one.
    pool = BlockingConnectionPool.from_url(proxy.url, max_connections=2)

    async def cut() -> bool:
        return proxy.cut(subscribed) > 0

    async def complete() -> bool:
        return all(follower.lines == follower.expected for follower in followers)

    async with (
        Redis.from_pool(pool) as client,
        running(
            Hub(client, Settings(redis_url=proxy.url, heartbeat_s=NEVER_S, probe_s=5), subscriber_pool_of(proxy.url))
        ) as hub,
    ):
        for number in range(READERS):
            writer = dice.choice(writers)
            followers.append(Follower(hub, writer, dice.randint(0, len(writer.lines))))
            await dice.choice(writers).write(dice.randint(1, 5))
            if dice.random() < 0.7:
                await followers.pop(dice.randrange(len(followers))).close()
            if number % 50 == 49:
                await until(cut)  # as soon as there is one to cut
            await asyncio.sleep(dice.random() / 200)
        for writer in writers:
            await writer.write()

        await until(complete)
        open_ = {keys.channel(follower.writer.task_id): 1 for follower in followers}
        await until_subscribed(redis, writers, open_)
        for follower in followers:
            await follower.close()
        await until_subscribed(redis, writers, {})


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[Hub]:
    """A hub that runs; afterwards nothing of it does, nor of its readers, whatever has failed."""
    owner = asyncio.create_task(hub.run())
    before = asyncio.all_tasks()
    try:
        yield hub
    finally:
        left = {owner, *(asyncio.all_tasks() - before)}
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=1)


@pytest.mark.parametrize("command", ["PUBLISH", "SUBSCRIBE"])
async def test_a_cancel_that_is_swallowed(
    proxy: Proxy, redis_url: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A session that breaks while it says something is rebuilt at once, although Python 3.11's `asyncio.wait_for`, with
    which redis-py sends, takes a cancel for nothing now and then: here it always does.
    """
    send, sent = Connection.send_command, asyncio.Event()

    async def swallowing(connection: Connection, *args: Any, **kwargs: Any) -> None:
        await send(connection, *args, **kwargs)
        if args[0] == command:
            sent.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    monkeypatch.setattr(Connection, "send_command", swallowing)
    async with (
        Redis.from_url(redis_url) as client,
        running(
            Hub(
                client,
                Settings(redis_url=proxy.url, heartbeat_s=NEVER_S, probe_s=NEVER_S),
                subscriber_pool_of(proxy.url),
            )
        ),
        asyncio.timeout(DEADLINE_S),
    ):
        for _ in range(3):
            await sent.wait()
            sent.clear()
            assert proxy.cut() == 1


async def test_the_death_of_the_hubs_own_task(proxy: Proxy, redis_url: str, tmp_path: Path) -> None:
    """An unforeseen fault ends the hub's task: readiness reports it, the task is restarted, readers go on."""
    gate = tmp_path / "gate"
    with worker_process(redis_url), broken_api(proxy.url) as url:
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as client:
            await until_ready(client)
            reader = EventReader(client, await start(client, "gated", gate=str(gate), note=str(tmp_path / "note")))
            await reader.until(1)
            assert proxy.cut(subscribed) == 1
            await until_ready(client, 503)
            assert (await client.get("/health/ready")).json() == {
                "redis": "ok",
                "hub": "disconnected",
                "functions": "ok",
                "memory": "ok",
            }
            await asyncio.to_thread(gate.touch)
            await reader.until(1)
            await until_ready(client)
            assert data(reader.seen) == ["before", "after"]


@contextmanager
def broken_api(redis_url: str) -> Iterator[str]:
    """An API whose hub dies of its first disconnection, and where it answers."""
    command = ["uvicorn", "--factory", "tests.support.broken_hub:create_app", "--port", "0"]
    settings = {"REDIS_URL": redis_url, **NO_HEARTBEAT}
    process = Process([sys.executable, "-m", *command], settings)
    try:
        yield process.wait_for(r"running on (http://[\d.:]+)").group(1)
        assert process.output.count("background task crashed") == 1
    finally:
        process.kill()
