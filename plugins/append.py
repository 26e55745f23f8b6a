"""The text of the write rule, and its refusals. Both services call it themselves.

It answers the new length or a refusal, as described in `append.lua`.
"""

from enum import IntEnum
from typing import Any, Final

from plugins import keys, scripts

_RULE: Final = scripts.read("append.lua", __file__)

# For chunks.
SCRIPT: Final = "local FIRST, record = 6\n" + _RULE

# For the mark of an attempt, alone: the same step counts what is no chunk of that attempt's.
MARK_SCRIPT: Final = scripts.read("record_mark.lua", __file__) + "\n" + _RULE

# For entries of which the last is the task's end: the same step records it.
END_SCRIPT: Final = scripts.read("record_end.lua", __file__) + "\n" + _RULE

# For an end alone: it may be written when Redis is full. An end is small, the output that it stops is not.
# (https://redis.io/docs/latest/develop/programmability/lua-api/#script_flags; Redis 7, Valkey)
END_WHEN_FULL: Final = "#!lua flags=allow-oom\n" + END_SCRIPT

# Entries per call. A script blocks the server: some hundred entries cost it a fraction of a millisecond.
MAX_ENTRIES: Final = 256

# In the place of a claim: the API ends a task whose worker is lost. It is `FENCED` if the task is leased.
LOST_WORKER: Final = "-"


class Refusal(IntEnum):
    """Why nothing was appended."""

    FENCED = -1
    CLOSED = -2
    TRUNCATED = -3


def arguments(task_id: str, expected: int, attempt: int, *lines: bytes, claim: str = "") -> dict[str, Any]:
    """Return the arguments of `SCRIPT` and `MARK_SCRIPT`: `await script(**arguments(…))`.

    `expected` is the length of the log as the writer knows it: the seq of the first of `lines`. `claim` is the token of
    the worker's claim; the API has none, and may say `LOST_WORKER` for an end.
    """
    return {
        "keys": [keys.log(task_id), keys.metadata(task_id)],
        "args": [expected, attempt, claim, keys.CHUNK_TTL_S, keys.channel(task_id), *lines],
    }


def end_arguments(
    task_id: str, expected: int, attempt: int, *lines: bytes, claim: str = "", log_ttl_s: int = keys.CHUNK_TTL_S
) -> dict[str, Any]:
    """Return the arguments of `END_SCRIPT` and `END_WHEN_FULL`, as `arguments`. The last of `lines` is an end.

    `log_ttl_s` is how long the log is kept from then on, in seconds. Without `lines`, and with `expected` 0, they
    record the end that the log has.
    """
    return {
        "keys": [keys.log(task_id), keys.metadata(task_id), keys.OPEN, keys.task_input(task_id)],
        "args": [
            *[expected, attempt, claim, log_ttl_s, keys.channel(task_id)],
            *[task_id, keys.TASK_TTL_S, keys.CANCEL],
            *lines,
        ],
    }
