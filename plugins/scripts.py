"""Lua scripts, as both services send them: as text, with every call.

To be called by its hash, a script would have to be loaded first; and during a failover the connections of a pool lead
to two servers, of which one may lack it. A kilobyte more per call costs less than handling that.
"""

from pathlib import Path


def read(name: str, beside: str) -> str:
    """Return the script of this name in the folder of this file, without blank lines and lines of comment."""
    lines = [line.strip() for line in Path(beside).with_name(name).read_text().splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("--"))
