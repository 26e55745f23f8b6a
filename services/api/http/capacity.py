"""How many connections of clients this process takes: as many as it may, and has files for.

A process without files left cannot say so: the kernel resets new connections, and a look-up in Redis may fail. The
bound is below that, so that a client that is one too many is told.
"""

import sys
from typing import Final

import structlog

from services.api.settings import Settings

# Files for what is no client's connection: listening sockets, logs, name look-ups.
OTHER_FILES: Final = 64

# Connections that were refused and are being told so.
MOST_REFUSED: Final = 64

# The part of the bound at which the log says that it is near; and below which it may say so again.
NEAR: Final = 0.9
FAR: Final = 0.7

logger = structlog.get_logger()


class Capacity:
    """The connections that a process takes, and the `refused` ones that are still open."""

    def __init__(self, settings: Settings) -> None:
        self.refused: set[object] = set()
        others = OTHER_FILES + MOST_REFUSED + settings.redis_connections + 1
        files = file_limit(settings.max_connections + others)
        self.most = max(1, min(settings.max_connections, files - others))
        self._near = False
        say = logger.info if self.most == settings.max_connections else logger.warning
        say("connections limited", most=self.most, file_limit=files)

    def admit(self, connections: int) -> bool:
        """Return whether there is room for the last one of these connections. Log once that there soon is none."""
        if connections >= NEAR * self.most and not self._near:
            logger.warning("connection limit near", connections=connections, most=self.most)
            self._near = True
        elif connections < FAR * self.most:
            self._near = False
        return connections <= self.most


def file_limit(wanted: int) -> int:
    """Return how many files this process may have open. Raise the limit to this number first, as far as it may.

    Shells and systemd give a process 1,024 files, and leave it to the process to take more.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):  # macOS has another limit that it does not tell
        return soft
    return raised
