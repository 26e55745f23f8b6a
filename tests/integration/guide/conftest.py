"""The API that the guide talks to, and the rule that its tests leave no key without a lifetime."""

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from tests.support.processes import Api, Process, api_process


@pytest.fixture(scope="package")
def api(redis_url: str, worker: Process) -> Iterator[Api]:
    """An API that looks often for what is due: a further attempt begins as soon as its back-off is over."""
    with api_process(redis_url, TAILRACE_SCAN_S="0.1") as api:
        yield api


@pytest.fixture(autouse=True)
def lifetimes(redis: Redis) -> None:
    """Have every key checked after the test, which `redis` does."""
