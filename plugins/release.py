"""The text of `release.lua`. Both services call it themselves."""

from pathlib import Path
from typing import Any, Final

from plugins import keys

SCRIPT: Final = Path(__file__).with_name("release.lua").read_text()


def arguments(task_id: str, claim: str | None, pause_s: float) -> dict[str, Any]:
    """Return the arguments of the script. `claim` is the one to release; None for any whose lease has expired."""
    return {"keys": [keys.metadata(task_id)], "args": [claim or "", int(pause_s * 1000), keys.TASK_TTL_S]}
