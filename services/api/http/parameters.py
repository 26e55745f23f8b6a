"""What clients send in URLs and headers: names, keys, cursors, numbers, and the media types that they accept."""

import re
from typing import Annotated, Any, Final

import msgspec
from litestar import Request
from litestar.openapi.spec import OpenAPIType
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from services.api.http.problems import problem

# 18 digits are more than any log has entries. Python would parse any number of them.
CURSOR: Final = re.compile(r"-1|[0-9]{1,18}|tail", re.ASCII)

# The weight of a media type that the client does not accept (RFC 9110, 12.4.2).
EXCLUDED: Final = re.compile(r";\s*q=0(?:\.0{0,3})?\s*(?:;|$)")

# In the OpenAPI document, a parameter that may be left out is a string, and never null.
OPTIONAL: Final[dict[str, Any]] = {"one_of": None, "type": OpenAPIType.STRING}

# The id of a task, and the name of a function, in a path.
TaskId = Annotated[str, PathParameter(description="As answered by POST /tasks.")]
FunctionName = Annotated[str, PathParameter(description="As in GET /functions.")]

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="The same request with the same key within 24 h: the same task.",
        schema_extra=OPTIONAL,
    ),
]

LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="Seq of the last entry seen: the stream goes on after it.",
        schema_extra=OPTIONAL,
    ),
]

Ticket = Annotated[
    str | None,
    QueryParameter(
        description="A ticket of POST /tasks/{task_id}/tickets, for a client that sends no header.",
        schema_extra=OPTIONAL,
    ),
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


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A number of the query. It is read by hand, because Litestar's own errors do not name its bounds."""

    name: str
    default: int
    low: int
    high: int
    whole: bool = False

    def described(self, meaning: str) -> QueryParameter:
        """Return the parameter, with the number's bounds in the OpenAPI document."""
        kind = OpenAPIType.INTEGER if self.whole else OpenAPIType.NUMBER
        bounds = {"default": self.default, "minimum": self.low, "maximum": self.high}
        return QueryParameter(
            description=f"{meaning}, {self.low} to {self.high}; {self.default} by default.",
            schema_extra=OPTIONAL | {"type": kind} | bounds,
        )

    def parse(self, text: str | None) -> float:
        """Return the number, or the default if it is missing or empty.

        Raises:
            ProblemDetailsException: 400, it is not a number, or not within the bounds.
        """
        if not text:
            return self.default
        digits = text.isascii() and text.replace("." if not self.whole else "", "", 1).isdigit() and len(text) < 20
        if not digits or not self.low <= float(text) <= self.high:
            kind = "whole number" if self.whole else "number"
            raise problem(
                400,
                f"invalid-{self.name}",
                f"Invalid {self.name}",
                f"The parameter {self.name} must be a {kind} from {self.low} to {self.high}.",
            )
        return float(text)


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter of the query that is `true` or `false`; false if it is missing or empty."""

    name: str

    def described(self, meaning: str) -> QueryParameter:
        """Return the parameter for the OpenAPI document."""
        return QueryParameter(
            description=meaning, schema_extra=OPTIONAL | {"type": OpenAPIType.BOOLEAN, "default": False}
        )

    def parse(self, text: str | None) -> bool:
        """Return the flag.

        Raises:
            ProblemDetailsException: 400, it is neither `true` nor `false`.
        """
        if text and text not in ("true", "false"):
            raise problem(
                400, f"invalid-{self.name}", f"Invalid {self.name}", f"The parameter {self.name} must be true or false."
            )
        return text == "true"


def media_types(request: Request[Any, Any, Any]) -> set[str]:
    """Return the media types that the header `Accept` names and does not exclude (`q=0`), without parameters."""
    ranges = ",".join(request.headers.getall("accept", [])).lower().split(",")
    return {each.partition(";")[0].strip() for each in ranges if not EXCLUDED.search(each)}
