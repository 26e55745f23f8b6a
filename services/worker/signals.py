"""SIGTERM and SIGINT drain the worker, and SIGQUIT stops it now. Either way the process exits in a bounded time."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import structlog

logger = structlog.get_logger()

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

Shutdown = Callable[[], Coroutine[Any, Any, None]]


def stop_on_signal(drain: Shutdown, stop_now: Shutdown, drain_s: float, stop_s: float) -> None:
    """Drain on SIGTERM and SIGINT, and stop now on SIGQUIT, as Celery does.

    Force the exit if the process still runs after `drain_s`, when it drains, and `stop_s`.

    On these signals Taskiq stops reading, and waits for what runs, without a bound unless it was given one; its
    shutdown event comes only after that. Its own handler is called after this one.
    """
    loop = asyncio.get_running_loop()
    shutdowns: set[asyncio.Task[None]] = set()
    taskiq_handler = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        shutdown, bound_s = (stop_now, stop_s) if number == signal.SIGQUIT else (drain, drain_s + stop_s)
        timer = threading.Timer(bound_s, force_exit)
        timer.daemon = True
        timer.start()
        loop.call_soon_threadsafe(lambda: shutdowns.add(loop.create_task(shutdown())))
        if callable(taskiq_handler):
            try:
                taskiq_handler(number, frame)
            except KeyboardInterrupt:  # it was told several times. Functions' code could catch this
                force_exit()

    for number in SIGNALS:
        signal.signal(number, handle)
    forget_when_forked(*SIGNALS, signal.SIGHUP)  # which is Taskiq's


def forget_when_forked(*numbers: signal.Signals) -> None:
    """Let a process that a function forks have no handlers of these signals: they end it.

    They wait while it is forked. The new process would handle, or lose, one that arrives at once.
    """
    forking = threading.local()

    def before() -> None:
        forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.mask)

    def after_in_child() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)


def stop_manager() -> None:
    """Stop Taskiq's manager of this process, if there is one, with an exit code that reports an error.

    It would start the process again and again; and SIGTERM and SIGINT would make it exit without an error.
    """
    manager = multiprocessing.parent_process()
    if manager is not None and manager.pid is not None:
        with suppress(ProcessLookupError):  # another of its workers was quicker
            os.kill(manager.pid, signal.SIGUSR1)


def give_up() -> None:
    """Exit at once with an error, and let Taskiq's manager start no other process in this one's place."""
    stop_manager()
    sys.stdout.flush()
    os._exit(1)


def force_exit() -> None:
    """Exit at once, whatever still runs. Leases expire, and recovery takes over."""
    logger.error("shutdown timed out, forcing exit")
    os._exit(0)
