"""The API's connections to Redis, and how it sends scripts."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ReadOnlyError


class Pools(NamedTuple):
    """The connections of a process: those that all commands share, and the one that receives published messages."""

    commands: ConnectionPool
    subscriber: ConnectionPool


def pools_of(url: str, connections: int) -> Pools:
    """Return the pools of a process, with this many connections for commands. They connect when they are used."""
    return Pools(pool_of(url, connections), subscriber_pool_of(url))


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
        # It would tell the server what library this is. Redis 7.0 does not know how to allow that (deploy/redis.acl).
        driver_info=None,
    )


def subscriber_pool_of(url: str) -> ConnectionPool:
    """Return the pool of the one connection that receives published messages.

    No retries: every failure surfaces in the hub, which rebuilds its session. RESP2: messages are plain lists. The hub
    has its own time-outs: redis-py's is asyncio.wait_for, which in Python 3.11 may swallow a cancel.
    """
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        max_connections=1,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        client_name=f"tailrace-hub-{os.getpid()}",
        driver_info=None,
    )
    pool.connection_kwargs["protocol"] = 2  # the URL may say otherwise
    return pool


# A command and its arguments.
Call = tuple[Any, ...]


def script_call(script: str, keys: Sequence[Any], args: Sequence[Any]) -> Call:
    """Return the command that runs this script."""
    return ("EVAL", script, len(keys), *keys, *args)


async def pipelined(redis: Redis, calls: Iterable[Call]) -> list[Any]:
    """Send these commands in one round trip, and return their answers; refusals are among them.

    Raises:
        redis.exceptions.RedisError: Redis does not answer; or it is a replica by now.
    """
    async with redis.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.execute_command(*call)
        answers = list(await pipeline.execute(raise_on_error=False))
    for answer in answers:
        if isinstance(answer, ReadOnlyError):  # the same name leads to the new master
            await redis.connection_pool.disconnect(inuse_connections=False)
            raise answer
    return answers


async def run_script(redis: Redis, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
    """Run the script, and return its answer."""
    return await redis.eval(script, len(keys), *keys, *args)
