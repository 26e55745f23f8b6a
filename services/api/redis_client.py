"""The API's connections to Redis, how it sends scripts, and which errors are transient."""

import os
import re
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# Redis is unreachable, full, a replica since a failover, or a cluster that is moving slots.
TRANSIENT_ERRORS: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
)

# Errors for which redis-py has no class: too few replicas, a full disk, a script that runs long. In an error of a
# pipeline the code stands behind the command.
TRANSIENT_CODES: Final = re.compile(r"(^|caused error: \(')(NOREPLICAS|MISCONF|BUSY) ")


def is_transient(error: RedisError) -> bool:
    """Return whether the same call may succeed later, with nothing changed here."""
    return isinstance(error, TRANSIENT_ERRORS) or TRANSIENT_CODES.search(str(error)) is not None


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
