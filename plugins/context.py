"""`Context`: what a function may know about its own run."""

import asyncio
import threading
from typing import Any, Protocol

import msgspec

from plugins import keys


class Logger(Protocol):
    """Writes to the worker's log. Put what is to be searched for into fields: `logger.info("page read", page=3)`."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Log a detail."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log what happened."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log what should not happen often."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log what an operator must look at."""

    def exception(self, event: str, **fields: Any) -> Any:
        """Log an error with the exception that is being handled."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Passed to the parameter that is annotated with it. It is not part of the input.

    `owner` is the task's: a digest of 32 hexadecimal digits, whichever of the owner's credentials has started the task;
    or `anonymous`, the owner of all tasks of an API without authentication. It is empty if Redis has lost it.
    `attempt` is 1 at first. `yielded` is what earlier attempts have yielded and readers keep, in order: JSON values,
    and an `Event` for each that had a name. It is empty unless the function is `resumable` and was tried before.
    `logger` names the task in every line. `stopping` is set when the task is cancelled or its worker is shutting down:
    a thread sleeps by `stopping.wait(seconds)`.
    """

    task_id: str
    attempt: int
    yielded: list[Any]
    logger: Logger
    owner: str = keys.ANONYMOUS
    stopping: threading.Event = msgspec.field(default_factory=threading.Event)

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled or its worker is shutting down. Check it in a thread between two steps.

        Nothing else stops a function that is not async and does not yield for long.
        """
        return self.stopping.is_set()

    async def sleep_or_cancelled(self, seconds: float) -> bool:
        """Sleep. Return True, and at once, if the task was cancelled or its worker is shutting down.

        Then the function has a few seconds to end in its own way, while any other await raises `CancelledError`.
        """
        if self.cancelled:
            return True
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.cancelled or task is None:
                raise  # its time is up, or it is cancelled by something of its own
            task.uncancel()
        return self.cancelled
