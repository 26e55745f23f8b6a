"""The connections of a worker to Redis: they wait an outage out, and follow a failover."""

from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ReadOnlyError

# What every connection of a worker is made with.
OPTIONS: Final[dict[str, Any]] = {
    # An outage of Redis is waited out: 120 tries, up to 1 s apart. Chunks wait in their logs' bounded buffers.
    "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 120),
    # A server that became a replica is left: behind the same name there is another master. A RuntimeError is uvloop's,
    # where a connection is lost under a write: redis-py takes it for none of its own.
    "retry_on_error": [ReadOnlyError, RuntimeError],
    # Seconds. A blocking read needs more than its block.
    "socket_timeout": 10,
}


def connect(url: str) -> Redis:
    """A client for commands. Where all of its connections are in use, a command waits for as long as that takes."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=16, timeout=None, client_name="tailrace-worker", **OPTIONS
    )
    return Redis.from_pool(pool)
