"""Calls that are repeated while Redis refuses them for a transient reason."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from redis.exceptions import RedisError

from plugins.transient import is_transient

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
