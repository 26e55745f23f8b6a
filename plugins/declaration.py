"""What a worker announces of a function, and the api reads: all that is known of it without importing it."""

from typing import Any

import msgspec


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the hash `functions`, as JSON.

    `input` is the JSON Schema (2020-12) of the input object, `version` a hash of the source, `timeout` in seconds per
    attempt, `retries` the attempts after the first, `resumable` whether those keep what was yielded. What is new here
    has a default: the worker that announced may be older than who reads.
    """

    name: str
    description: str
    version: str
    input: dict[str, Any]
    timeout: float
    retries: int = 0
    resumable: bool = False
