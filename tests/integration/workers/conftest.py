"""A Redis and an API of these tests' own: no other process looks after their tasks."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support import redis_servers
from tests.support.processes import Api, api_process, worker_process
from tests.support.redis_servers import Full
from tests.support.settings import QUICK
from tests.support.waiting import DEADLINE_S, until


@pytest.fixture(scope="package")
def own_url() -> Iterator[str]:
    """A server of the chosen kind: these tests fill it, and flush its scripts."""
    server = redis_servers.container if redis_servers.choice() == "container" else redis_servers.embedded
    with server() as url:
        yield url


@pytest.fixture(scope="package")
def own_api(own_url: str) -> Iterator[Api]:
    """An API that recovers quickly, and knows all functions."""
    with worker_process(own_url):
        pass  # what it announced stays
    with api_process(own_url, **QUICK) as api:
        yield api


@pytest.fixture
async def own_client(own_api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that API."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=own_api.url, timeout=DEADLINE_S, limits=limits) as client:
        yield client


@pytest.fixture
async def own(own_url: str) -> AsyncIterator[Redis]:
    """A bare client of that Redis; after the test, every key must have a lifetime, and nothing be open for others."""
    async with Redis.from_url(own_url) as own:
        yield own
        try:
            await nothing_open(own)
            immortal = {key.decode() async for key in own.scan_iter() if await own.ttl(key) == -1}
            assert immortal <= keys.PERMANENT
        finally:
            await forget(own)


async def nothing_open(own: Redis) -> None:
    """Wait until every task has ended, to the last of its bookkeeping; or say which have not.

    A gate's entry does not count: it leaves when recovery has looked at it. Where the test killed its worker between
    the end and the bookkeeping, that is recovery's, too: it is made due at once.
    """

    async def closed() -> bool:
        still = await open_tasks(own)
        if still:
            await own.zadd(keys.OPEN, dict.fromkeys((member for member, _ in still), 0), xx=True)
        return not still

    await until(closed, "the test leaves no task open", pause_s=0.1, details=lambda: open_tasks(own))


async def forget(own: Redis) -> None:
    """The next test meets no task of this one, had it failed, and no gate: recovery would ask it in a minute."""
    await own.delete(keys.OPEN)
    for pattern in (keys.metadata("*"), keys.LIMIT_PREFIX + "*"):
        async for key in own.scan_iter(pattern):
            await own.delete(key)


async def open_tasks(own: Redis) -> list[tuple[bytes, float]]:
    """The tasks that have not ended, each with the time of its next look."""
    members: Any = await own.zrange(keys.OPEN, 0, -1, withscores=True)
    return [(member, due) for member, due in members if not member.startswith(keys.LIMIT_PREFIX.encode())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a function notes that it has begun, and that its clean-up has run."""
    notes = tmp_path / "notes"
    notes.mkdir()
    return notes


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that some functions wait for."""
    return tmp_path / "gate"


@pytest.fixture
async def full(own: Redis, own_client: httpx.AsyncClient) -> AsyncIterator[Full]:
    """A switch that is off after the test. The API looks once a second, so the next test begins when the API knows."""
    yield Full(own)
    await own.config_set("maxmemory", 0)

    async def known() -> bool:
        return bool((await own_client.get("/health/ready")).json()["memory"] == "ok")

    await until(known, "the API knows that there is room")
