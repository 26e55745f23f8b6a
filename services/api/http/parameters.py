"""What clients send in URLs and headers: names, keys, cursors, numbers."""

import re
from typing import Annotated, Final

import msgspec
from litestar.params import HeaderParameter, PathParameter

from services.api.http.problems import problem

# More digits than a log can ever have entries. Python would parse them all; nobody means them.
CURSOR: Final = re.compile(r"-1|[0-9]{1,18}|tail", re.ASCII)

# A function, in a path.
Name = Annotated[str, PathParameter(description="As in GET /functions.")]

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key", description="The same request with the same key within 24 h: the same task."
    ),
]

LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="Seq of the last entry seen: the stream goes on after it."),
]


class Cursor(msgspec.Struct, frozen=True):
    """The seq of the last entry a reader has seen, -1 for none, or None for whatever is the last one now."""

    after: int | None

    def start(self, length: int) -> int:
        """The seq to go on with, in a log of this length."""
        return length if self.after is None else self.after + 1


def cursor_of(**given: str | None) -> Cursor:
    """The cursor a request asks for: the first of these that is there and not empty; the start if none is.

    Raises:
        ProblemDetailsException: 400, it is not a cursor.
    """
    # White space around a header's value is not part of it (RFC 9110, 5.5).
    told = {name: value.strip(" \t") if name == "last_event_id" else value for name, value in given.items() if value}
    name, value = next(((name, value) for name, value in told.items() if value), ("after", "-1"))
    if not CURSOR.fullmatch(value):
        names = {"last_event_id": "The header Last-Event-ID", "query": "The parameter last_event_id"}
        raise problem(
            400,
            "invalid-cursor",
            "Invalid cursor",
            f"{names.get(name, 'The parameter after')} must be the seq of an entry (0, 1, 2, …), -1 for the start, or "
            "`tail` for now.",
        )
    return Cursor(None if value == "tail" else int(value))


def number(name: str, given: str | None, default: float, low: int, high: int, *, whole: bool = False) -> float:
    """A number from the query.

    Raises:
        ProblemDetailsException: 400, it is not a number, or not between `low` and `high`.
    """
    if not given:
        return default
    digits = given.isascii() and given.replace("." if not whole else "", "", 1).isdigit() and len(given) < 20
    if not digits or not low <= float(given) <= high:
        kind = "whole number" if whole else "number"
        raise problem(
            400, f"invalid-{name}", f"Invalid {name}", f"The parameter {name} must be a {kind} from {low} to {high}."
        )
    return float(given)
