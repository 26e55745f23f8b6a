"""Another server takes over: the old one becomes its replica, and refuses to write. No process has to be restarted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from tests.support.client import data, events, start
from tests.support.outages import assert_told_of_the_loss
from tests.support.proxy import Proxy
from tests.support.readers import Reader
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import ALERT, NO_HEARTBEAT
from tests.support.system import System, assert_a_cancel_is_heard, assert_a_task_runs, assert_whole, system
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# A master gives its data to a replica as soon as it is asked, rather than after some seconds.
AT_ONCE: Final = ("--repl-diskless-sync-delay", "0")


class Pair:
    """A server and its replica; `proxy` leads to the one that is said to be the master."""

    def __init__(
        self, servers: tuple[EmbeddedRedis, EmbeddedRedis], clients: tuple[Redis, Redis], proxy: Proxy
    ) -> None:
        self.servers = servers
        self.clients = clients
        self.proxy = proxy

    async def swap(self) -> None:
        """Let the replica take over, with nothing lost; the old master follows it then, and keeps its connections."""
        self.proxy.retarget(self.servers[1].port)
        command = ("FAILOVER", "TO", "127.0.0.1", self.servers[1].port)
        await self.clients[0].execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        await role(self.clients[1], "master")
        await role(self.clients[0], "slave")

    async def part(self) -> None:
        """Let the replica follow no more, as if the network between the two had failed."""
        await self.clients[1].replicaof("NO", "ONE")

    async def take_over(self) -> None:
        """Make the parted replica the master: entries that the old one has taken since are lost."""
        self.proxy.retarget(self.servers[1].port)
        await self.clients[0].replicaof("127.0.0.1", self.servers[1].port)
        await role(self.clients[0], "slave")


async def role(redis: Redis, wanted: str) -> None:
    """Wait until a server has this role, and its link stands."""

    async def taken() -> bool:
        info = await redis.info("replication")
        return bool(info["role"] == wanted and info.get("master_link_status", "up") == "up")

    await until(taken, f"it is a {wanted}", details=lambda: redis.info("replication"))


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """Two servers, the second a replica that is up to date."""
    with EmbeddedRedis(*AT_ONCE) as one, EmbeddedRedis(*AT_ONCE, "--replicaof", "127.0.0.1", str(one.port)) as two:
        async with Redis.from_url(one.url) as first, Redis.from_url(two.url) as second, Proxy(one.port) as proxy:
            await role(second, "slave")
            yield Pair((one, two), (first, second), proxy)


async def assert_all_is_well(through: System, folder: Path) -> None:
    """Tasks run, and are cancelled."""
    await assert_a_task_runs(through.client)
    await assert_a_cancel_is_heard(through.client, folder / "note")


async def test_a_failover_while_a_task_runs_and_is_followed(tmp_path: Path) -> None:
    """The function goes on, its readers get everything, and new tasks are taken, though no connection was closed."""
    async with pair() as servers, system(servers.proxy.url, api=NO_HEARTBEAT) as through:
        task_id = await start(through.client, "count", to=150, every=0.03)
        readers = [Reader(through.client, task_id) for _ in range(3)]
        for reader in readers:
            await reader.until(10)
        await servers.swap()
        assert len(readers[0].seen) < 150, "it had ended before the failover"

        for reader in readers:
            assert_whole(await reader.until_end(), list(range(1, 151)))
        assert (await through.client.get(f"/tasks/{task_id}")).json()["attempt"] == 1
        assert_whole(await events(through.client, task_id), list(range(1, 151)))
        await assert_all_is_well(through, tmp_path)


async def test_a_submit_at_the_moment_of_a_failover() -> None:
    """The first request after it is served: that the old master refuses to write is no answer to a client."""
    async with pair() as servers, system(servers.proxy.url) as through:
        await assert_a_task_runs(through.client)
        await servers.swap()
        await assert_a_task_runs(through.client)


async def test_a_failover_that_loses_entries(tmp_path: Path) -> None:
    """Readers are told that the new master lacks entries that they have, and the next task runs."""
    async with pair() as servers, system(servers.proxy.url, worker=ALERT, api=ALERT) as through:
        reader = Reader(through.client, await start(through.client, "count", to=1_000_000, every=0.03))
        await reader.until(10)
        await servers.part()
        await reader.until(20)
        await servers.take_over()

        seen = await reader.until_end()
        assert_told_of_the_loss(seen)
        told = next(number for number, event in enumerate(seen) if event.event != "message")
        assert data(seen[:told]) == list(range(1, told + 1))
        await assert_all_is_well(through, tmp_path)


async def test_a_cancel_just_after_a_failover_to_a_server_without_our_scripts(tmp_path: Path) -> None:
    """It is taken: which of two servers has a script is no matter of a client's."""
    async with pair() as servers, system(servers.proxy.url) as through:
        await assert_a_cancel_is_heard(through.client, tmp_path / "before")
        task_id = await start(through.client, "silent", note=str(tmp_path / "cancelled"))
        await servers.swap()
        for client in servers.clients:
            await client.script_flush()
        answer = await through.client.delete(f"/tasks/{task_id}")
        assert answer.status_code == 202, answer.text
        await assert_all_is_well(through, tmp_path)
