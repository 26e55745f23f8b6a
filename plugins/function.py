"""`@function` marks a function as a plug-in. It attaches the policy and changes nothing else."""

import math
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

import msgspec

from plugins import limits

FUNCTION_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)

# Seconds. However often it was tried already, a task does not wait longer for its next attempt.
MAX_BACKOFF_S: Final = 3_600

F = TypeVar("F", bound=Callable[..., Any])


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How a function is run: what `@function` was told, and its defaults. Times are in seconds, `max_bytes` counts
    entries of the log.

    Raises:
        ValueError: a value is not of the form that `function` describes.
    """

    name: str = ""  # empty for the own name of the function
    timeout: float = 3_600
    retries: int = 0
    backoff: float = 1
    resumable: bool = False
    max_chunks: int = 10_000
    max_bytes: int = 8_388_608
    concurrency: int | None = None
    concurrency_key: str | None = None
    rate: str | None = None

    def __post_init__(self) -> None:
        if self.name and not FUNCTION_NAME.fullmatch(self.name):
            raise ValueError(f"a function's name must match {FUNCTION_NAME.pattern}, not {self.name!r}")
        if not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout must be a number of seconds above 0, not {self.timeout!r}")
        if not 0 <= self.backoff < math.inf:
            raise ValueError(f"backoff must be a number of seconds, 0 or more, not {self.backoff!r}")
        for what, least in (("retries", 0), ("max_chunks", 1), ("max_bytes", 1)):
            value = getattr(self, what)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{what} must be a whole number, {least} or more, not {value!r}")
        if self.concurrency is not None and (type(self.concurrency) is not int or self.concurrency < 1):
            raise ValueError(f"concurrency must be a whole number, 1 or more, not {self.concurrency!r}")
        if self.concurrency_key is not None and self.concurrency is None:
            raise ValueError("concurrency_key needs concurrency: how many may run at once for each of its values")
        if self.rate is not None and not (isinstance(self.rate, str) and limits.RATE.fullmatch(self.rate)):
            raise ValueError(f'rate must be 1 to 10000 starts per s, m or h, such as "10/s", not {self.rate!r}')

    def pause(self, attempt: int) -> float:
        """Seconds between this attempt and the next one."""
        return min(self.backoff * 2.0 ** min(attempt - 1, 64), MAX_BACKOFF_S)


@overload
def function(marked: F, /) -> F: ...


@overload
def function(
    *,
    name: str | None = ...,
    timeout: float = ...,
    retries: int = ...,
    backoff: float = ...,
    resumable: bool = ...,
    max_chunks: int = ...,
    max_bytes: int = ...,
    concurrency: int | None = ...,
    concurrency_key: str | None = ...,
    rate: str | None = ...,
) -> Callable[[F], F]: ...


def function(marked: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a function a plug-in: async or not, with `yield` or without. `@function` is `@function()`.

    What it yields are its chunks; one without `yield` has one chunk, what it returns. One that is not async runs in a
    thread of its own, waits at each `yield` until the log has the chunk, and is cancelled there: in a thread, nothing
    else can be stopped.

    Args:
        name: what clients call it; the function's own name unless given. Letters, digits, `_`, `.`, `-`; up to 64.
        timeout: seconds from an attempt's start until it is stopped and the task ends as `failed: timeout`.
        retries: attempts after the first, if it raised, or if its worker died or was shut down. None by default, so
            that a generation is not paid for twice by accident. A time-out, a limit and an input that does not fit
            are not retried: the next attempt would end in the same way.
        backoff: seconds before the second attempt, doubled for each after it, up to an hour. A worker that died or was
            shut down is no reason to wait.
        resumable: a further attempt continues: it finds what was yielded in `Context.yielded`, and readers keep it.
            Otherwise it starts from nothing, and readers drop what they have.
        max_chunks: chunks until the task ends as `failed: limit`; 10,000 unless given.
        max_bytes: bytes of its log until the same; 8 MiB unless given. A single chunk, with its envelope, may have
            256 KiB. Redis keeps as much for an hour after the end. A resumable function holds as much in
            `Context.yielded`.
        concurrency: attempts that run at once, over all workers; any number unless given. What that holds back stays
            queued, in the order in which it was submitted.
        concurrency_key: a parameter. The limits then hold for each value of it, instead of all tasks together.
        rate: attempts that start within any period, such as `"10/s"`, `"30/m"`, `"100/h"`. An attempt starts when it is
            given to the workers.

    Raises:
        TypeError: one of them was given without its name.
        ValueError: one of them is not of that form.
    """
    if marked is not None and not callable(marked):
        raise TypeError(f"what @function takes is given by name, as in @function(timeout=60), not {marked!r}")
    given = Policy(**options)

    def attach(decorated: F) -> F:
        named = msgspec.structs.replace(given, name=given.name or decorated.__name__)
        decorated.__tailrace__ = named  # type: ignore[attr-defined]  # a mark of our own
        return decorated

    return attach if marked is None else attach(marked)


def policy(candidate: object) -> Policy | None:
    """The policy that `@function` attached, or None for anything else."""
    attached = getattr(candidate, "__tailrace__", None)
    return attached if isinstance(attached, Policy) else None
