"""`sys.exit()` in a function's task or callback fails the task of that function, and the worker goes on.

An event loop lets SystemExit and KeyboardInterrupt of a task or a callback end the process. An attempt catches what a
function raises itself; this is for what the function starts: `gather`, `create_task`, `call_soon`, a done-callback.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, NoReturn

import structlog

from plugins.forks import exit_fork

logger = structlog.get_logger()

OnExit = Callable[[SystemExit], None]

# What fails the attempt to which the running code belongs. Tasks and callbacks inherit it.
on_exit: Final[ContextVar[OnExit | None]] = ContextVar("on_exit", default=None)


def survive_exits(loop: asyncio.AbstractEventLoop) -> None:
    """Let this loop, which does not run yet, run on after an exit in a task or a callback."""
    run_forever, pid = loop.run_forever, os.getpid()

    def exit_function(status: Any = None, /) -> NoReturn:
        error = SystemExit(status)
        if os.getpid() == pid:  # a process that a function forks may send the error to its parent
            error.on_exit = on_exit.get()  # type: ignore[attr-defined]  # the loop does not say whose task has raised it
        raise error

    def run_on() -> None:
        while True:
            try:
                return run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                if os.getpid() != pid:
                    exit_fork(error)
                logger.exception("exit in a task or a callback, the worker goes on")
                if isinstance(error, SystemExit) and (fail := getattr(error, "on_exit", None)):
                    loop.call_soon(fail, error)

    sys.exit = exit_function
    loop.run_forever = run_on  # type: ignore[method-assign]  # of this loop: Taskiq has made it, and is about to run it
