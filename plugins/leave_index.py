"""The text of `leave_index.lua`. Both services call it themselves."""

from typing import Any, Final

from plugins import keys, scripts

SCRIPT: Final = scripts.read("leave_index.lua", __file__)


def arguments(task_id: str) -> dict[str, Any]:
    """Return the arguments of the script."""
    return {"keys": [keys.OPEN, keys.metadata(task_id)], "args": [task_id]}
