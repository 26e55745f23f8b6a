"""Errors of Redis that are transient, and the calls that are repeated until they succeed."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
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

# Errors for which redis-py has no class: too few replicas, a full disk, a script that runs long, a blocking read on a
# server that becomes a replica. In an error of a pipeline the code stands behind the command.
TRANSIENT_CODES: Final = re.compile(r"(^|caused error: \(')(NOREPLICAS|MISCONF|BUSY|UNBLOCKED) ")

# Seconds until the next try, if the client itself does not wait.
RETRY_PAUSE_S: Final = 1


T = TypeVar("T")

logger = structlog.get_logger()


async def retry_transient(operation: str, call: Callable[[], Awaitable[T]], **context: object) -> T:
    """Call until Redis accepts, and return its answer. The client has retried failed connections already.

    `operation` and `context` are fields of the log line. The call must be repeatable: making it twice changes nothing
    more.

    Raises:
        redis.exceptions.RedisError: an error that is not transient.
    """
    while True:
        try:
            return await call()
        except RedisError as error:
            if not is_transient(error):
                raise
            logger.warning("refused by redis, retrying", operation=operation, error=str(error), **context)
            await asyncio.sleep(RETRY_PAUSE_S)


def is_transient(error: RedisError) -> bool:
    """Return whether the same call may succeed later, with nothing changed here."""
    return isinstance(error, TRANSIENT_ERRORS) or TRANSIENT_CODES.search(str(error)) is not None
