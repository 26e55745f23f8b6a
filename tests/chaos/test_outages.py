"""Outages as long as in production: no entry is lost, no worker counts as dead, no process is restarted."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
import pytest

from tests.support.client import events, start, until_ready
from tests.support.readers import Reader
from tests.support.redis_servers import DURABLE, EmbeddedRedis
from tests.support.system import assert_a_task_runs, assert_whole, system

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]

# Seconds that Redis is frozen, and that it is away.
FROZEN_S: Final = 10
AWAY_S: Final = 30

READERS: Final = 5


@asynccontextmanager
async def followed(client: httpx.AsyncClient, chunks: int, every: float) -> AsyncIterator[list[Reader]]:
    """Two functions that run and are followed by several readers; afterwards, each has everything, by one attempt."""
    ids = [await start(client, "count", to=chunks, every=every) for _ in range(2)]
    readers = [Reader(client, task_id) for task_id in ids for _ in range(READERS)]
    for reader in readers:
        await reader.until(10)
    yield readers
    assert all(len(reader.seen) < chunks for reader in readers), "it had ended before the outage"
    expected = list(range(1, chunks + 1))
    for reader in readers:
        assert_whole(await reader.until_end(), expected)
    for task_id in ids:
        status = (await client.get(f"/tasks/{task_id}")).json()
        assert (status["status"], status["attempt"]) == ("done", 1)
        assert_whole(await events(client, task_id), expected)


async def until_over(client: httpx.AsyncClient, seconds: float) -> None:
    """Let the outage last; the API lives meanwhile."""
    over = asyncio.create_task(asyncio.sleep(seconds))
    while not over.done():
        assert (await client.get("/health/live")).status_code == 200
        await asyncio.wait([over], timeout=0.5)


async def test_redis_is_frozen() -> None:
    """Redis is silent for ten seconds, and then executes all commands that clients have sent meanwhile."""
    with EmbeddedRedis() as server:
        async with system(server.url) as through, followed(through.client, 400, 0.05):
            assert server.process is not None
            server.process.signal(signal.SIGSTOP)
            await until_over(through.client, FROZEN_S)
            server.process.signal(signal.SIGCONT)


async def test_redis_is_away() -> None:
    """Half a minute without Redis, twice a lease: functions run on, their chunks wait, and readers get everything."""
    with EmbeddedRedis(*DURABLE) as server:
        async with system(server.url) as through:
            async with followed(through.client, 700, 0.05):
                server.kill()
                await until_over(through.client, AWAY_S)
                server.start()
            await until_ready(through.client)
            await assert_a_task_runs(through.client)
