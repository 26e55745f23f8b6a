"""The simulated time, the event loop that runs by it, and randomness that comes from a seed."""

import asyncio
import contextvars
import random
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

# Seconds since the epoch at which every history begins; and the monotonic clock then. It is a small number, so that
# asyncio's comparisons are exact.
EPOCH: Final = 1_800_000_000.0
BEGIN: Final = 1_000.0


class Process:
    """A simulated process. Its wall clock differs from the simulated time by `skew` seconds."""

    def __init__(self, name: str, skew: float = 0) -> None:
        self.name = name
        self.skew = skew
        self.dead = False
        self.frozen = False
        self.late: list[Callable[[], None]] = []  # timers that were due while it was frozen

    def ended(self) -> None:
        """Called once, when it dies."""

    def __repr__(self) -> str:
        return self.name


# The process whose code runs.
PROCESS: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar("process", default=None)


class Clock:
    """The simulated time, in seconds. Only the simulator moves it. `now` is monotonic."""

    def __init__(self) -> None:
        self.now = BEGIN

    def monotonic(self) -> float:
        """The time that `time.monotonic` returns."""
        return self.now

    def wall(self) -> float:
        """The time that `time.time` returns to the process whose code runs."""
        process = PROCESS.get()
        return EPOCH + (self.now - BEGIN) + (process.skew if process else 0)

    def wall_ns(self) -> int:
        """The same, in nanoseconds."""
        return int(self.wall() * 1_000_000) * 1_000

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within this context, the module `time` tells the simulated time."""
        with (
            patch.object(time, "time", self.wall),
            patch.object(time, "time_ns", self.wall_ns),
            patch.object(time, "monotonic", self.monotonic),
        ):
            yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within this context, jitter, tokens and ids come from the seed."""
    dice, state = random.Random(seed), random.getstate()
    random.seed(seed)
    try:
        with patch("os.urandom", dice.randbytes), patch("random._urandom", dice.randbytes):
            yield
    finally:
        random.setstate(state)


class NothingToDoError(Exception):
    """The schedule waits for something that no step brings about."""


class _NoFiles(selectors.SelectSelector):
    """Commands are executed between two iterations of the loop, so there is never a file to wait for."""

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            raise NothingToDoError
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop on the simulated time. A frozen process gets its timers when it wakes, a dead one never."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__(_NoFiles())

    def time(self) -> float:
        """The simulated time."""
        return self._clock.now

    @property
    def idle(self) -> bool:
        """Whether no callback is ready."""
        return not self._ready  # type: ignore[attr-defined]  # asyncio has no public name for it

    @property
    def next_timer(self) -> float | None:
        """When the next timer of a living process is due, if there is one."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # nor for this
        due = [
            timer.when()
            for timer in scheduled
            if not timer.cancelled() and not ((owner := _owner(timer)) and (owner.dead or owner.frozen))
        ]
        return min(due, default=None)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]  # any callback
        """Call back at this time, in the process whose code asks for it."""
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        context = context or contextvars.copy_context()

        def fire() -> None:
            if process.frozen:
                process.late.append(wake)
            elif not process.dead:
                callback(*args)

        def wake() -> None:
            self.call_soon(fire_late, context=context)

        def fire_late() -> None:
            if not timer.cancelled():
                fire()

        timer = super().call_at(when, fire, context=context)
        return timer


def _owner(timer: asyncio.TimerHandle) -> Process | None:
    context: contextvars.Context = timer._context  # type: ignore[attr-defined]  # nor for this
    return context.get(PROCESS)
