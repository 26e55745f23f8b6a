"""The text of `release.lua`. Both services call it themselves."""

from typing import Any, Final

from plugins import keys, scripts

SCRIPT: Final = scripts.read("release.lua", __file__)


def arguments(task_id: str, claim: str | None, pause_s: float) -> dict[str, Any]:
    """Return the arguments of the script. `claim` is the one to release; None for any whose lease has expired."""
    return {
        "keys": [keys.metadata(task_id), keys.OPEN, keys.log(task_id), keys.task_input(task_id)],
        "args": [claim or "", int(pause_s * 1000), keys.TASK_TTL_S, task_id, keys.CHUNK_TTL_S],
    }
