"""The connections of a worker to Redis: they wait an outage out, and follow a failover."""

from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ReadOnlyError

# An outage of Redis is waited out: 120 tries, up to 1 s apart. Chunks wait in the bounded buffers of their logs.
OUTAGE_RETRY: Final = Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 120)

# Options of every connection of a worker.
OPTIONS: Final[dict[str, Any]] = {
    "retry": OUTAGE_RETRY,
    # Drop the connection to a server that became a replica: the same name leads to the new master. uvloop raises a
    # RuntimeError if a connection is lost during a write, and redis-py does not count that as an error of its own.
    "retry_on_error": [ReadOnlyError, RuntimeError],
    # Seconds. A blocking read needs more than its block.
    "socket_timeout": 10,
    # It would tell the server what library this is. Redis 7.0 does not know how to allow that (deploy/redis.acl).
    "driver_info": None,
}


def connect(url: str) -> Redis:
    """Return a client for commands. If all of its connections are in use, a command waits without a time-out."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=16, timeout=None, client_name="tailrace-worker", **OPTIONS
    )
    return Redis.from_pool(pool)
