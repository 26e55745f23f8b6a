"""What a function can be told about its own run."""

from typing import Any

import msgspec


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Given to the parameter that is annotated with it; no part of the input.

    `attempt` is 1 at first. `yielded` is what earlier attempts have yielded and readers keep, as JSON values in order:
    empty unless the function is `resumable` and was tried before.
    """

    task_id: str
    attempt: int
    yielded: list[Any]
