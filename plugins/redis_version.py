"""The oldest Redis that has all that both services use: flags of scripts, and the rules of deploy/redis.acl."""

import re
from collections.abc import Mapping
from typing import Any, Final

MINIMUM: Final = (7, 0)


def too_old(info: Mapping[str, Any]) -> str:
    """Return what is wrong with the server that answers this to `INFO server`; empty if it is new enough.

    Valkey says with which Redis it is compatible. A server that states no version is not judged.
    """
    stated = str(info.get("redis_version", ""))
    found = re.match(r"(\d+)\.(\d+)", stated)
    if found is None or tuple(map(int, found.groups())) >= MINIMUM:
        return ""
    return f"Redis {stated} is too old: it should be {'.'.join(map(str, MINIMUM))} or newer, or Valkey"
