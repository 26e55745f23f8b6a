"""`@function` marks an async generator as a plug-in. It attaches the policy and changes nothing else."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)

F = TypeVar("F", bound=Callable[..., Any])


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a function is run. `name` is how it is called over HTTP; `timeout` is its longest total run, in seconds."""

    name: str
    timeout: float


def function(*, name: str | None = None, timeout: float = 3_600) -> Callable[[F], F]:
    """Declare an async generator function a plug-in.

    Args:
        name: what clients call it; the function's own name unless given. Letters, digits, `_`, `.`, `-`; up to 64.
        timeout: seconds from its start until it is stopped and its task ends as `failed: timeout`.

    Raises:
        ValueError: the name or the time-out is not of that form.
    """
    if not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")

    def attach(decorated: F) -> F:
        called = name or decorated.__name__
        if not NAME.fullmatch(called):
            raise ValueError(f"a function's name must match {NAME.pattern}, not {called!r}")
        decorated.__tailrace__ = Policy(name=called, timeout=timeout)  # type: ignore[attr-defined]  # a mark of our own
        return decorated

    return attach


def policy(candidate: object) -> Policy | None:
    """The policy that `@function` attached, or None for anything else."""
    attached = getattr(candidate, "__tailrace__", None)
    return attached if isinstance(attached, Policy) else None
