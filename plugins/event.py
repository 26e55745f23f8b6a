"""What a function can yield beside plain values: chunks with a name of their own."""

import re
from typing import Any, Final

import msgspec

# Names that have a meaning in the log, SSE or EventSource: a browser raises `error` for a lost connection.
RESERVED: Final = frozenset({"attempt", "cancelled", "chunk", "done", "error", "failed", "gap", "message", "open"})

EVENT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)


class Event(msgspec.Struct, frozen=True):
    """A chunk that is stored, counted and replayed like any other, and reaches readers under this name.

    In a browser: `source.addEventListener(name, …)`. `data` is any JSON value.

    Raises:
        ValueError: the name is taken, or not a letter and up to 63 letters, digits, `_`, `.`, `-`.
    """

    name: str
    data: Any = None

    def __post_init__(self) -> None:
        if not EVENT_NAME.fullmatch(self.name):
            raise ValueError(f"an event's name must match {EVENT_NAME.pattern}, not {self.name!r}")
        if self.name in RESERVED:
            raise ValueError(f"an event cannot be called {self.name!r}: readers know it as something else")


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a function is: the event `progress`, with `done` of `total` in whatever unit, and a note for people."""

    done: float
    total: float | None = None
    note: str | None = None


def named(chunk: Any) -> tuple[str, Any]:
    """Return the event name of a chunk's entry, and its data."""
    if isinstance(chunk, Event):
        return chunk.name, chunk.data
    if isinstance(chunk, Progress):
        return "progress", chunk
    return "chunk", chunk
