"""Connections to Redis that break, again and again, at any moment: streams are whole, and functions run once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from tests.functions.failures import weather
from tests.support.client import client_of, data, events, start, until_ready
from tests.support.files import open_gate
from tests.support.outages import CALLS, ID, call
from tests.support.processes import api_process, worker_process
from tests.support.proxy import Proxy, Which, subscribed
from tests.support.readers import Reader
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import NO_HEARTBEAT
from tests.support.system import assert_a_cancel_is_heard, assert_a_task_runs, assert_whole, proxy_of, system

pytestmark = pytest.mark.anyio

READERS: Final = 5


@asynccontextmanager
async def cutting(proxy: Proxy, which: Which | None, every_s: float) -> AsyncIterator[list[int]]:
    """Cut these connections again and again; how many each time."""
    cuts: list[int] = []

    async def cut() -> None:
        while True:
            await asyncio.sleep(every_s)
            cuts.append(proxy.cut(which))

    cutter = asyncio.create_task(cut())
    try:
        yield cuts
    finally:
        cutter.cancel()
        await asyncio.wait([cutter])


async def test_connections_that_break_while_nobody_uses_them(own_database: str, tmp_path: Path) -> None:
    """A network that forgets idle connections, as firewalls do, costs no request and no chunk."""
    async with proxy_of(own_database) as proxy, system(proxy.url) as through:
        gate = tmp_path / "gate"
        reader = Reader(through.client, await start(through.client, "ticks_until", gate=str(gate), every=0.03))
        for _ in range(10):
            await reader.until(5)
            assert proxy.cut(lambda connection: not connection.pubsub)
            for method, path in CALLS:
                answer = await call(through.client, method, path.replace("60", "0"))
                usual = 202 if method == "POST" else 404 if ID in path else 200
                assert answer.status_code == usual, (method, path, answer.text)
        open_gate(gate)
        seen = await reader.until_end()
        assert_whole(seen, list(range(1, len(seen))))
        await assert_a_task_runs(through.client)


async def test_pubsub_that_breaks_all_the_time(own_database: str) -> None:
    """A connection that lives for a twentieth of a second at a time carries a stream from its first to its last."""
    async with (
        proxy_of(own_database) as proxy,
        system(proxy.url, api=NO_HEARTBEAT) as through,
        cutting(proxy, subscribed, 0.05) as cuts,
    ):
        task_id = await start(through.client, "storm", seed=11, chunks=3_000)
        seen = await asyncio.gather(*(events(through.client, task_id) for _ in range(READERS)))

    for each in seen:
        assert_whole(each, weather(11, 3_000))
    assert sum(cuts) > 10


async def test_every_connection_breaks_all_the_time(own_database: str) -> None:
    """Where nothing lives for half a second, requests may be refused, but a stream that runs is whole."""
    async with proxy_of(own_database) as proxy, system(proxy.url, api=NO_HEARTBEAT) as through:
        task_id = await start(through.client, "storm", seed=12, chunks=3_000)
        readers = [Reader(through.client, task_id) for _ in range(READERS)]
        for reader in readers:
            await reader.until(1)
        async with cutting(proxy, None, 0.3) as cuts:
            seen = [await reader.until_end() for reader in readers]
        await until_ready(through.client)
        assert (await through.client.get(f"/tasks/{task_id}")).json()["attempt"] == 1

    for each in seen:
        assert_whole(each, weather(12, 3_000))
    assert sum(cuts) > 5


async def test_a_stream_that_is_too_much_for_the_connection() -> None:
    """If Redis closes a subscriber that is too slow for one stream, no reader misses an entry."""
    with EmbeddedRedis("--client-output-buffer-limit", "pubsub 64kb 64kb 0") as server:
        async with Redis.from_url(server.url) as redis, system(server.url, api=NO_HEARTBEAT) as through:
            innocent = Reader(through.client, await start(through.client, "count", to=200, every=0.02))
            await innocent.until(1)
            large = await events(through.client, await start(through.client, "heavy", bursts=40, chunks=40, size=8_000))

            assert_whole(await innocent.until_end(), list(range(1, 201)))
            assert_whole(large, [f"{number:08000}" for number in range(40 * 40)])
            assert (await redis.info("stats"))["client_output_buffer_limit_disconnections"] > 2


@pytest.mark.parametrize("query", ["", "?protocol=3"])
async def test_a_redis_that_is_far_away(own_database: str, query: str, tmp_path: Path) -> None:
    """With 50 ms each way, and with either protocol, everything works."""
    async with proxy_of(own_database) as proxy, system(proxy.url + query) as through:
        proxy.delay_s = 0.05
        task_id = await start(through.client, "storm", seed=13, chunks=1_000)
        for each in await asyncio.gather(*(events(through.client, task_id) for _ in range(READERS))):
            assert_whole(each, weather(13, 1_000))
        assert [event.id for event in await events(through.client, task_id, after="990")] == [
            str(seq) for seq in range(991, 1_001)
        ]

        await assert_a_cancel_is_heard(through.client, tmp_path / "note")
        assert (await through.client.get("/health/ready")).status_code == 200


async def test_a_cancel_from_far_away(own_database: str) -> None:
    """An API that is farther from Redis than the worker can cancel a function that writes faster than it can ask."""
    with worker_process(own_database):
        async with proxy_of(own_database) as proxy:
            with api_process(proxy.url) as api:
                async with client_of(api) as client:
                    await until_ready(client)
                    proxy.delay_s = 0.02
                    task_id = await start(client, "count", to=1_000_000, every=0.002)
                    reader = Reader(client, task_id)
                    await reader.until(10)
                    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
                    seen = await reader.until_end()
    assert data(seen) == list(range(1, len(seen)))
    assert seen[-1].event == "cancelled"
