"""How this process reaches Redis: its connections, its scripts, and which errors pass by themselves.

Scripts are sent by their text. By its hash, a script must first be loaded; and during a failover the connections of a
pool lead to two servers, one of which may have it. A kilobyte more per call is less than what there is to know about
that.
"""

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

# Away, full, a replica since a failover, a cluster that moves.
KINDS: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
)

# What redis-py has no class for: too few replicas, a disk that is full, a script that runs long. In an error of a
# pipeline the code stands behind the command.
CODES: Final = re.compile(r"(^|caused error: \(')(NOREPLICAS|MISCONF|BUSY) ")


def passes(error: RedisError) -> bool:
    """Whether the same call may succeed later, with nothing changed here."""
    return isinstance(error, KINDS) or CODES.search(str(error)) is not None


def pool_of(url: str, connections: int) -> BlockingConnectionPool:
    """So many connections for commands, which share them."""
    return BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        # Seconds to wait for a free connection, then 503. Well below what a command takes that a silent Redis does not
        # answer (below, twice 2): whoever waits behind one is told in time, instead of being the next to try.
        timeout=2,
        socket_timeout=2,
        socket_connect_timeout=2,
        # One more try, at once: a connection that was dropped while idle is found out only when it is used.
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.1), 1),
        # A server that became a replica is left: behind the same name there is another master. A RuntimeError is
        # uvloop's, where a connection is lost under a write: redis-py takes it for none of its own.
        retry_on_error=[ReadOnlyError, RuntimeError],
        client_name=f"tailrace-api-{os.getpid()}",
    )


async def run_script(redis: Redis, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
    """The script's answer.

    Raises:
        redis.exceptions.RedisError: Redis refused, or could not be reached.
    """
    return await redis.eval(script, len(keys), *keys, *args)
