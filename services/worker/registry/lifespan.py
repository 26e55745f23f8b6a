"""Resources of a module's functions, made once per process: a lifespan is entered and exited in a bounded time."""

import asyncio
import inspect
from pathlib import Path
from typing import Any, Final

from plugins.lifespan import Lifespan

# Seconds to exit it, at shutdown.
EXIT_S: Final = 2


class LifespanError(Exception):
    """A lifespan raised what is no `Exception`, which is the cause of this one."""


class Resource:
    """The resource of one lifespan: `value`, of type `kind`, once `enter` has returned."""

    def __init__(self, lifespan: Lifespan) -> None:
        self.name: Final = lifespan.name
        self.kind: Final = lifespan.kind
        self.file: Final = Path(inspect.getfile(inspect.unwrap(lifespan.make)))
        self.value: Any = None
        self._make: Final = lifespan.make
        self._entered: asyncio.Future[None] | None = None
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def enter(self, timeout_s: float) -> None:
        """Enter the lifespan.

        Raises:
            TimeoutError: it took too long.
            Exception: whatever its author's code raises; a LifespanError for what is no `Exception`.
        """
        self._task = asyncio.create_task(self._live())
        self._entered = asyncio.get_running_loop().create_future()
        either: set[asyncio.Future[None]] = {self._task, self._entered}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not (self._task.done() or self._entered.done()):
            self._task.cancel()
            raise TimeoutError(f"its lifespan was not ready within {timeout_s:g} s (TAILRACE_IMPORT_S)")
        if not self._entered.done():
            await self._task  # raises
            raise RuntimeError("its lifespan yielded nothing")

    async def exit(self) -> None:
        """Exit the lifespan, in a bounded time.

        Raises:
            TimeoutError: it took too long.
            Exception: whatever its author's code raises; a LifespanError for what is no `Exception`.
        """
        self._over.set()
        if self._task is None:
            return
        # Not by `asyncio.timeout`: its cancel would wait for a clean-up that swallows the cancel.
        done, _ = await asyncio.wait({self._task}, timeout=EXIT_S)
        if not done:
            self._task.cancel()
            raise TimeoutError(f"its lifespan did not clean up within {EXIT_S} s")
        await self._task

    async def _live(self) -> None:
        # Entered and exited in one task: its resources may be bound to that (anyio's cancel scopes are).
        try:
            async with self._make() as value:
                self.value = value
                assert self._entered is not None
                self._entered.set_result(None)
                await self._over.wait()
        except Exception:
            raise
        # From a task, SystemExit would end the worker, and CancelledError would pass for a cancel by this class.
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # it is one: after a time-out, which was raised already
            raise LifespanError from error
