"""SIGTERM and SIGINT: the worker drains, and is gone in a bounded time, whatever holds it. SIGQUIT: it ends at once."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog

logger = structlog.get_logger()


Way = Callable[[], Coroutine[Any, Any, None]]


def leave_on_signal(drain: Way, end: Way, grace_s: float, rest_s: float) -> None:
    """Drain when the process is told to stop, or end what runs when it is told so (SIGQUIT, as with Celery).

    What does not let go is ended hard: `rest_s` after the grace, where there is one.

    Taskiq stops reading then, and waits for what runs, for ever unless it was told otherwise; its shutdown event comes
    only after that. Its own handler is called after ours.
    """
    loop = asyncio.get_running_loop()
    leaving: set[asyncio.Task[None]] = set()
    taskiqs = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        way, bound_s = (end, rest_s) if number == signal.SIGQUIT else (drain, grace_s + rest_s)
        last_resort = threading.Timer(bound_s, exit_hard)
        last_resort.daemon = True
        last_resort.start()
        loop.call_soon_threadsafe(lambda: leaving.add(loop.create_task(way())))
        if callable(taskiqs):
            taskiqs(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, handle)


def stop_the_manager() -> None:
    """End Taskiq's manager of this process, if there is one, with an exit code that says that something is wrong.

    It would start the process again and again, and handles SIGTERM and SIGINT as a wish to end well.
    """
    manager = multiprocessing.parent_process()
    if manager is not None and manager.pid is not None:
        with suppress(ProcessLookupError):  # another worker of its was quicker
            os.kill(manager.pid, signal.SIGUSR1)


def exit_hard() -> None:
    """End the process, whatever holds it. Leases run out, and recovery takes over."""
    logger.error("something does not let go; exiting all the same")
    os._exit(0)
