"""What clients send in URLs and headers: names, keys, cursors, numbers, and the media types that they accept."""

import re
from typing import Annotated, Any, Final

import msgspec
from litestar import Request
from litestar.params import HeaderParameter, PathParameter

from services.api.http.problems import problem

# 18 digits are more than any log has entries. Python would parse any number of them.
CURSOR: Final = re.compile(r"-1|[0-9]{1,18}|tail", re.ASCII)

# The id of a task, and the name of a function, in a path.
TaskId = Annotated[str, PathParameter(description="As answered by POST /tasks.")]
FunctionName = Annotated[str, PathParameter(description="As in GET /functions.")]

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
    """The seq of the last entry that a reader has seen, -1 for none, or None for the last entry that there is now."""

    after: int | None

    def start(self, length: int) -> int:
        """Return the seq to read next, in a log of this length."""
        return length if self.after is None else self.after + 1


def cursor_of(**parameters: str | None) -> Cursor:
    """Return the cursor of a request: the first of these parameters that is not empty; the start if all are.

    Raises:
        ProblemDetailsException: 400, it is not a cursor.
    """
    # White space around a header's value is not part of it (RFC 9110, 5.5).
    values = {
        name: value.strip(" \t") if name == "last_event_id" else value for name, value in parameters.items() if value
    }
    name, value = next(((name, value) for name, value in values.items() if value), ("after", "-1"))
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


def number(name: str, text: str | None, default: float, low: int, high: int, *, whole: bool = False) -> float:
    """Parse a number of the query. Return the default if it is missing or empty.

    Raises:
        ProblemDetailsException: 400, it is not a number, or not between `low` and `high`.
    """
    if not text:
        return default
    digits = text.isascii() and text.replace("." if not whole else "", "", 1).isdigit() and len(text) < 20
    if not digits or not low <= float(text) <= high:
        kind = "whole number" if whole else "number"
        raise problem(
            400, f"invalid-{name}", f"Invalid {name}", f"The parameter {name} must be a {kind} from {low} to {high}."
        )
    return float(text)


def media_types(request: Request[Any, Any, Any]) -> set[str]:
    """Return the media types of the header `Accept`, without parameters."""
    ranges = ",".join(request.headers.getall("accept", [])).lower().split(",")
    return {media_range.partition(";")[0].strip() for media_range in ranges}
