"""Which errors of Redis are transient: the same call may succeed later, with nothing changed here."""

import re
from typing import Final

# The classes, and those derived from them, by their names in redis-py, which this folder does not import. Redis is
# unreachable, full, a replica since a failover, or a cluster that is moving slots.
CLASSES: Final = frozenset(
    {
        "ConnectionError",
        "TimeoutError",
        "OutOfMemoryError",
        "ReadOnlyError",
        "MasterDownError",
        "ClusterDownError",
        "TryAgainError",
    }
)

# Errors for which redis-py has no class: too few replicas, a full disk, a script that runs long, a blocking read on a
# server that becomes a replica. In an error of a pipeline the code stands behind the command.
CODES: Final = re.compile(r"(^|caused error: \(')(NOREPLICAS|MISCONF|BUSY|UNBLOCKED) ")


def is_transient(error: Exception) -> bool:
    """Return whether the same call may succeed later."""
    classes = {kind.__name__ for kind in type(error).__mro__}
    return not CLASSES.isdisjoint(classes) or CODES.search(str(error)) is not None
