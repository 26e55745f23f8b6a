"""What a worker announces of a function, and the api reads: all that is known of it without importing it."""

from typing import Any

import msgspec


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the hash `functions`, as JSON.

    `input` is the JSON Schema (2020-12) of the input object, `version` a hash of the source, `timeout` in seconds.
    """

    name: str
    description: str
    version: str
    input: dict[str, Any]
    timeout: float
