"""The processes of a whole system, and the rule that no test leaves a key without a lifetime."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.processes import Api, Process, api_process, worker_process


@pytest.fixture(scope="session")
def worker(redis_url: str) -> Iterator[Process]:
    """One worker for the whole run. It abandons functions that do not stop after a short grace."""
    with worker_process(redis_url, TAILRACE_GRACE_S="2") as process:
        yield process


@pytest.fixture(scope="session")
def apis(redis_url: str, worker: Process) -> Iterator[list[Api]]:
    """Two API processes: a client may come back to either."""
    with api_process(redis_url) as one, api_process(redis_url) as other:
        yield [one, other]


@pytest.fixture(scope="session")
def api(apis: list[Api]) -> Api:
    """The one that most tests talk to."""
    return apis[0]


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the first API."""
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        yield client


@pytest.fixture
async def own(own_url: str) -> AsyncIterator[Redis]:
    """A bare client of the module's own database."""
    async with Redis.from_url(own_url) as redis:
        yield redis


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A bare client; after the test, every key must have a lifetime."""
    async with Redis.from_url(redis_url) as redis:
        yield redis
        immortal = {key.decode() async for key in redis.scan_iter() if await redis.ttl(key) == -1}
        assert immortal <= keys.PERMANENT
