"""Which errors of Redis pass by themselves, so that a client is told to ask again."""

import re
from typing import Final

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
