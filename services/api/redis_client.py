"""The API's connections to Redis, and how it sends scripts."""

import os
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ReadOnlyError


def pool_of(url: str, connections: int) -> BlockingConnectionPool:
    """Return a pool of this many connections, which all commands share."""
    return BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        # Seconds to wait for a free connection, then 503. Well below the time of a command that a silent Redis does not
        # answer (below, twice 2): a request that waits behind one is answered in time, and is not the next to try.
        timeout=2,
        socket_timeout=2,
        socket_connect_timeout=2,
        # One more try, at once: a connection that was dropped while idle is noticed only when it is used.
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.1), 1),
        # Drop the connection to a server that became a replica: the same name leads to the new master. uvloop raises a
        # RuntimeError if a connection is lost during a write, and redis-py does not count that as an error of its own.
        retry_on_error=[ReadOnlyError, RuntimeError],
        client_name=f"tailrace-api-{os.getpid()}",
    )


async def run_script(redis: Redis, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
    """Run the script, and return its answer."""
    return await redis.eval(script, len(keys), *keys, *args)
