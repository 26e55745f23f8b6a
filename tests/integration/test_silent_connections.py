"""Connections that hear nothing and say nothing of it: found, rebuilt, and nothing missed; no heartbeat helps here."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from tests.support.client import data, start, until_ready
from tests.support.proxy import Proxy, named
from tests.support.readers import Reader, heard
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import NO_HEARTBEAT
from tests.support.system import System, system
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

HUB: Final = named(b"tailrace-hub")

# Seconds within which a connection that hears nothing is found and rebuilt; and what a busy machine may add.
FOUND_S: Final = 10
BUSY_S: Final = 3


@asynccontextmanager
async def listening(through: System, redis: Redis, folder: Path) -> AsyncIterator[tuple[Reader, Path]]:
    """A reader that has heard one chunk and waits for the next; it is yielded once the file appears."""
    gate = folder / "gate"
    task_id = await start(through.client, "gated", gate=str(gate), note=str(folder / "note"))
    reader = Reader(through.client, task_id)
    await reader.until(1)
    await until(lambda: heard(redis, task_id))
    yield reader, gate
    assert (await through.client.delete(f"/tasks/{task_id}")).status_code == 202
    assert [event.event for event in await reader.until_end()] == ["message", "message", "cancelled"]
    assert data(reader.seen) == ["before", "after"]


async def heard_in_time(reader: Reader, gate: Path) -> None:
    """The next chunk comes though the connection is deaf, as soon as that is found."""
    begun = time.monotonic()
    await asyncio.to_thread(gate.touch)
    async with asyncio.timeout(FOUND_S + BUSY_S):
        await reader.until(1)
    print(f"heard after {time.monotonic() - begun:.1f} s")


async def test_a_connection_whose_other_end_is_gone(tmp_path: Path) -> None:
    """Where the network swallows everything and says nothing, open streams go on, and new ones too."""
    with EmbeddedRedis() as server:
        async with (
            Redis.from_url(server.url) as redis,
            Proxy(server.port) as proxy,
            system(proxy.url, api=NO_HEARTBEAT) as through,
            listening(through, redis, tmp_path) as (reader, gate),
        ):
            assert proxy.freeze(HUB) == 1
            late = Reader(through.client, await start(through.client, "count", to=20, every=0.05))
            await heard_in_time(reader, gate)
            assert data(await late.until_end()) == list(range(1, 21))
            await until_ready(through.client)


async def test_a_connection_to_a_server_that_lost_its_place(tmp_path: Path) -> None:
    """After a failover that left it on a server where nothing is published any more, open streams go on."""
    with EmbeddedRedis() as old, EmbeddedRedis("--replicaof", "127.0.0.1", str(old.port)) as new:
        async with (
            Redis.from_url(old.url) as redis,
            Redis.from_url(new.url) as promoted,
            Proxy(old.port) as proxy,
            system(proxy.url, api=NO_HEARTBEAT) as through,
            listening(through, redis, tmp_path) as (reader, gate),
        ):
            await until(lambda: replicated(redis, promoted), "the replica has everything")
            await promoted.replicaof("NO", "ONE")
            proxy.retarget(new.port)
            proxy.cut(lambda connection: not HUB(connection))
            await heard_in_time(reader, gate)


async def test_readiness_while_it_is_deaf(tmp_path: Path) -> None:
    """An instance that cannot hear says so until it can."""
    with EmbeddedRedis() as server:
        async with Proxy(server.port) as proxy, system(proxy.url, api={"TAILRACE_PROBE_S": "0.5"}) as through:
            assert proxy.freeze(HUB) == 1
            held = asyncio.create_task(hold(proxy))
            await until_ready(through.client, 503)
            assert (await through.client.get("/health/ready")).json() == {
                "redis": "ok",
                "hub": "disconnected",
                "functions": "ok",
                "memory": "ok",
            }
            held.cancel()
            await asyncio.wait([held])
            proxy.cut(HUB)
            await until_ready(through.client)


async def replicated(master: Redis, replica: Redis) -> bool:
    """Whether the replica has what the master has now. WAIT says so only of what its own connection has written."""
    there = (await master.info("replication"))["master_repl_offset"]
    here = await replica.info("replication")
    return bool(here["master_link_status"] == "up" and here["slave_repl_offset"] >= there)


async def hold(proxy: Proxy) -> None:
    """Freeze whatever the hub connects anew."""
    while True:
        proxy.freeze(HUB)
        await asyncio.sleep(0.01)
