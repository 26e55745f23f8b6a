"""A Redis that evicts keys is no place for logs, and the worker warns its operator."""

import pytest

from tests.support.processes import worker_process
from tests.support.redis_servers import EmbeddedRedis


@pytest.mark.parametrize("policy", ["volatile-lru", "allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_is_pointed_out(policy: str) -> None:
    """The worker's log says at its start what would happen, and what to set instead."""
    with EmbeddedRedis("--maxmemory-policy", policy) as server, worker_process(server.url) as worker:
        assert policy in worker.wait_for(r"error.*redis evicts keys.*maxmemory_policy=.*should_be=noeviction.*").group()


def test_a_redis_that_does_not_evict_is_fine() -> None:
    """No warning appears without a reason."""
    with EmbeddedRedis() as server, worker_process(server.url) as worker:
        worker.wait_for("functions loaded")
        worker.stop()
        assert "evicts" not in worker.output
