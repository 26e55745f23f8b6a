"""The text of `leave_index.lua`. Both services call it themselves."""

from typing import Any, Final

from plugins import keys, scripts

SCRIPT: Final = scripts.read("leave_index.lua", __file__)


def arguments(task_id: str, limit_key: str | None) -> dict[str, Any]:
    """Return the arguments of the script. `limit_key` is None if the task has no limit."""
    limit = [limit_key] if limit_key else []
    return {"keys": [keys.OPEN, keys.metadata(task_id), *limit], "args": [task_id]}
