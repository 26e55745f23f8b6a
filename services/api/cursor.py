"""Where a reader stands: after which entry it wants to go on."""

import re
from typing import Annotated, Final

import msgspec
from litestar.params import HeaderParameter
from litestar.plugins.problem_details import ProblemDetailsException

from services.api.problems import problem
from services.api.task import Task

# More digits than a log can ever have entries. Python would parse them all; nobody means them.
CURSOR: Final = re.compile(r"-1|[0-9]{1,18}|tail", re.ASCII)

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


def gone(task: Task) -> ProblemDetailsException:
    """410: the task is known, its log is not kept any more."""
    return problem(
        410,
        "expired",
        "Log expired",
        f"The task ended as {task.noted}; its log was kept for an hour after its last entry. "
        f"GET /tasks/{task.task_id} still says how it ended.",
    )
