"""What other programs, and other releases, have written into Redis: what cannot be read is skipped, and logged."""

import re
from functools import lru_cache
from typing import Final

import structlog
from redis.exceptions import ResponseError

from plugins import entries

# How many reports are remembered, so that each is logged once; and the characters of each of its parts.
MAX_REPORTS: Final = 4_096
MAX_LENGTH: Final = 200

# The event of an entry, as every writer of this product has it: a frame of SSE is a line for it.
EVENT: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)

logger = structlog.get_logger()


class UnreadableError(ValueError):
    """The record of this task cannot be read: the message says why."""

    def __init__(self, task_id: str, reason: object) -> None:
        super().__init__(str(reason))
        self.task_id = task_id


def is_wrong_type(error: Exception) -> bool:
    """Return whether Redis refused a command because the key is of another type. That does not pass by itself."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def decoded(line: bytes) -> entries.Entry:
    """Return the entry of a line.

    Raises:
        ValueError: it is none that a client could read.
    """
    try:
        entry = entries.decode(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if b"\n" in line or b"\r" in line:
        raise ValueError("it is more than one line")
    if not line.isascii():
        line.decode()
    if entry.event != "chunk" and not EVENT.fullmatch(entry.event):
        raise ValueError("the name of its event is malformed")
    return entry


def entry_of(task_id: str, line: bytes) -> entries.Entry | None:
    """Return the entry of a line of this task's log. Return None, and log that, if no client could read it."""
    try:
        return decoded(line)
    except ValueError as error:
        log_once("entry not readable", task_id, error)
        return None


def log_once(event: str, name: str, error: object) -> None:
    """Log that what has this name cannot be read, unless that was logged a short time ago."""
    _log_once(event, name[:MAX_LENGTH], str(error)[:MAX_LENGTH])


@lru_cache(maxsize=MAX_REPORTS)
def _log_once(event: str, name: str, error: str) -> None:
    logger.error(event, name=name, error=error)
