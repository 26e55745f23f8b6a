"""Whether Redis admits the worker, and is new enough: known before it runs anything."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError

from plugins import redis_version
from services.worker.redis_client.pool import OPTIONS
from services.worker.redis_client.retry import retry_transient


class UnusableRedisError(Exception):
    """No worker can run with this Redis until an operator changes something: the error says what."""


async def check(url: str) -> None:
    """Wait until this Redis answers.

    Raises:
        UnusableRedisError: it refuses the worker, or it is too old.
    """
    # Without the retries of an outage: they would repeat a wrong password for minutes.
    async with Redis.from_url(url, **(OPTIONS | {"retry": Retry(NoBackoff(), 0)})) as redis:

        async def ask() -> str:
            try:
                return redis_version.too_old(await redis.info("server"))
            except (AuthenticationError, NoPermissionError) as error:
                return f"Redis refuses the user of REDIS_URL: {error}"

        if wrong := await retry_transient("ask redis for its version", ask):
            raise UnusableRedisError(wrong)
