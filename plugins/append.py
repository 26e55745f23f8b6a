"""The text of the write rule, and its refusals. Both services call it themselves.

It answers the new length or a refusal, as described in `append.lua`.
"""

from enum import IntEnum
from typing import Any, Final

from plugins import keys, scripts

SCRIPT: Final = scripts.read("append.lua", __file__)

# The same rule for ends only: it may write when Redis is full. An end is small, the output that it stops is not.
# (https://redis.io/docs/latest/develop/programmability/lua-api/#script_flags; Redis 7, Valkey)
END_SCRIPT: Final = "#!lua flags=allow-oom\n" + SCRIPT

# Entries per call. A script blocks the server: some hundred entries cost it a fraction of a millisecond.
MAX_ENTRIES: Final = 256


class Refusal(IntEnum):
    """Why nothing was appended."""

    FENCED = -1
    CLOSED = -2
    TRUNCATED = -3


def arguments(task_id: str, expected: int, attempt: int, *lines: bytes) -> dict[str, Any]:
    """Return the arguments of the script: `await script(**arguments(…))`.

    `expected` is the length of the log as the writer knows it: the seq of the first of `lines`.
    """
    return {
        "keys": [keys.log(task_id)],
        "args": [expected, attempt, keys.CHUNK_TTL_S, keys.channel(task_id), *lines],
    }
