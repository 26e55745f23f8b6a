"""SIGTERM and SIGINT: the worker drains, and is gone in a bounded time, whatever holds it."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import structlog

logger = structlog.get_logger()


def drain_on_signal(drain: Callable[[], Coroutine[Any, Any, None]], last_resort_s: float) -> None:
    """Begin to drain when the process is told to stop; end it hard if it is still there after so many seconds.

    Taskiq stops reading then, and waits for what runs, for ever unless it was told otherwise; its shutdown event comes
    only after that. Its own handler is called after ours.
    """
    loop = asyncio.get_running_loop()
    draining: set[asyncio.Task[None]] = set()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        last_resort = threading.Timer(last_resort_s, exit_hard)
        last_resort.daemon = True
        last_resort.start()
        loop.call_soon_threadsafe(lambda: draining.add(loop.create_task(drain())))
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in previous:
        signal.signal(number, handle)


def exit_hard() -> None:
    """End the process, whatever holds it. Leases run out, and recovery takes over."""
    logger.error("something does not let go; exiting all the same")
    os._exit(0)
