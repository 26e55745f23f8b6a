"""A Redis with which nothing can work: the services say what is wrong with it, instead of failing in the middle."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from typing import Final

import pytest
from redis.asyncio import Redis

from tests.support.client import client_of, until_ready
from tests.support.processes import FOR_A_PERSON, FUNCTIONS, Process, api_process
from tests.support.proxy import Proxy
from tests.support.redis_acl import PASSWORD, url_of
from tests.support.system import proxy_of
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

WORKER: Final = [sys.executable, "-m", "services.worker", "--workers", "2"]


@pytest.fixture
async def old(own_database: str) -> AsyncIterator[Proxy]:
    """A network that leads to a Redis which says that it is some 6."""
    async with proxy_of(own_database) as proxy:
        proxy.retell = lambda reply: re.sub(rb"redis_version:\d", b"redis_version:6", reply)
        yield proxy


async def ended(worker: Process) -> str:
    """The output of a worker that has ended with an error, all its processes have."""
    try:
        assert await asyncio.to_thread(worker.wait) != 0
    finally:
        worker.kill()
    return worker.output


async def test_a_worker_of_a_redis_that_is_too_old(old: Proxy) -> None:
    """It ends before it has announced anything, and its log says which versions there may be."""
    output = await ended(Process(WORKER, {"REDIS_URL": old.url, "FUNCTIONS_PATH": FUNCTIONS, **FOR_A_PERSON}))
    assert re.search(r"redis cannot be used.*Redis 6[\d.]+ is too old: it should be 7.0 or newer, or Valkey", output)
    assert "functions loaded" not in output
    assert "Traceback" not in output


async def test_an_api_of_a_redis_that_is_too_old(old: Proxy) -> None:
    """It gets no requests from a load balancer, and its log and its readiness say why, until Redis is new enough."""
    with api_process(old.url) as api:
        async with client_of(api) as client:

            async def answered() -> str:
                return str((await client.get("/health/ready")).json()["redis"])

            async def says_so() -> bool:
                return "is too old: it should be 7.0 or newer" in await answered()

            await until(says_so, "readiness says that Redis is too old", details=answered)
            assert (await client.get("/health/ready")).status_code == 503
            await asyncio.to_thread(api.process.wait_for, "redis cannot be used.*is too old")
            old.retell = bytes
            await until_ready(client)


async def test_a_worker_with_a_wrong_password(own_database: str) -> None:
    """It ends and says so, instead of trying for ever; its log has no password."""
    url = url_of("worker", own_database).replace(PASSWORD, "not-the-password")
    output = await ended(Process(WORKER, {"REDIS_URL": url, "FUNCTIONS_PATH": FUNCTIONS, **FOR_A_PERSON}))
    assert "redis cannot be used" in output
    assert "Redis refuses the user of REDIS_URL" in output
    assert "not-the-password" not in output
    assert "Traceback" not in output


async def test_a_worker_without_rights(own_database: str) -> None:
    """Its log has what its user may not do."""
    async with Redis.from_url(own_database) as redis:
        await redis.execute_command("ACL", "SETUSER", "newcomer", "on", ">of-a-newcomer")  # type: ignore[no-untyped-call]
    url = own_database.replace("redis://", "redis://newcomer:of-a-newcomer@")
    output = await ended(Process(WORKER, {"REDIS_URL": url, "FUNCTIONS_PATH": FUNCTIONS, **FOR_A_PERSON}))
    assert re.search("Redis refuses the user of REDIS_URL: .*no permissions", output)
