"""Which errors of Redis pass by themselves, so that whoever meets one waits and tries again."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# Away, full, a replica since a failover, a cluster that moves; or scripts were flushed while one was being loaded.
KINDS: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
    NoScriptError,
)

# What redis-py has no class for: too few replicas, a disk that is full, a script that runs long, a blocking read on a
# server that becomes a replica. In an error of a pipeline the code stands behind the command.
CODES: Final = re.compile(r"(^|caused error: \(')(NOREPLICAS|MISCONF|BUSY|UNBLOCKED) ")

# Seconds until the next try, where the client itself does not wait.
PAUSE_S: Final = 1


T = TypeVar("T")

logger = structlog.get_logger()


async def patiently(what: str, call: Callable[[], Awaitable[T]], **about: object) -> T:
    """Call, and call again while Redis refuses for now. Connections that fail the client has retried already.

    `what` and `about` are for the log. The call must be one that may be made twice.

    Raises:
        redis.exceptions.RedisError: the refusal would not pass.
    """
    while True:
        try:
            return await call()
        except RedisError as error:
            if not passes(error):
                raise
            logger.warning(f"{what} refused by Redis, trying again", error=str(error), **about)
            await asyncio.sleep(PAUSE_S)


def passes(error: RedisError) -> bool:
    """Whether the same call may succeed later, with nothing changed here."""
    return isinstance(error, KINDS) or CODES.search(str(error)) is not None
