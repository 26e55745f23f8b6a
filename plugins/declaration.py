"""What a worker announces of a function, and the api reads: all that is known of it without importing it."""

from typing import Any, Final

import msgspec

# Bytes of an announcement, its name in the hash included. Every listing of functions has it, so it must not be large.
MAX_BYTES: Final = 262_144


class Broken(msgspec.Struct, frozen=True):
    """A source of functions that a worker could not load, or a function that it refused: one field of the hash
    `functions:broken`, as JSON.

    `source` is a file, or an entry point and its package; `at` is when the worker last said so, in milliseconds since
    the epoch, by the clock of Redis.
    """

    source: str
    error: str
    at: int


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the hash `functions`, as JSON.

    `input` is the JSON Schema (2020-12) of the input object, `output` that of a chunk's data, None where the function
    does not say; `version` a hash of the source, `timeout` in seconds per attempt, `retries` the attempts after the
    first, `resumable` whether those keep what was yielded; `concurrency`, `concurrency_key` and `rate` are its limits,
    None if there is none. `announced_at` is when a worker last announced it, in milliseconds since the epoch, by the
    clock of Redis. A new field has a default, because the worker that announces may be older than the API that reads.
    """

    name: str
    description: str
    version: str
    input: dict[str, Any]
    output: dict[str, Any] | None = None
    timeout: float
    retries: int = 0
    resumable: bool = False
    concurrency: int | None = None
    concurrency_key: str | None = None
    rate: str | None = None
    announced_at: int | None = None


def size_of(declaration: Declaration) -> int:
    """Return the bytes of a declaration as it will be announced, its name in the hash and the time included."""
    announced = msgspec.structs.replace(declaration, announced_at=2**53)
    return len(declaration.name) + len(msgspec.json.encode(announced))
