"""Functions that start processes of their own."""

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from plugins import function


@dataclass
class Point:
    """A class of this file alone."""

    x: int


def double(point: Point) -> Point:
    """Return a point of twice the size."""
    return Point(point.x * 2)


@function(timeout=60)
def doubles(method: str) -> int:
    """Send a point to a pool of processes, and back."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return pool.submit(double, Point(21)).result().x


@function(timeout=60)
def maps(method: str) -> list[int]:
    """Send points to a pool of the older kind."""
    with multiprocessing.get_context(method).Pool(1) as pool:
        return [point.x for point in pool.map(double, [Point(1), Point(2)])]


def sleeps() -> None:
    """Take long."""
    time.sleep(3_600)


@function(timeout=60)
def terminates(number: int) -> dict[str, Any]:
    """Fork a process that takes long, and send it a signal; say how it ended, and after how many seconds."""
    process = multiprocessing.get_context("fork").Process(target=sleeps)
    process.start()
    assert process.pid is not None
    begun = time.monotonic()
    os.kill(process.pid, number)
    process.join()
    return {"code": process.exitcode, "took": time.monotonic() - begun}


@function(timeout=60)
def terminates_a_bare_fork(number: int) -> dict[str, Any]:
    """As `terminates`, with nothing between."""
    pid = os.fork()
    if pid == 0:
        time.sleep(3_600)
        os._exit(0)
    begun = time.monotonic()
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "took": time.monotonic() - begun}


def leave_by(way: str) -> None:
    """Leave a new process in this way, if it is one of these."""
    if way == "exit":
        sys.exit(3)
    if way == "raise":
        raise ValueError("in the new process")


@function(timeout=60)
async def forks(leaves: str) -> AsyncIterator[dict[str, Any]]:
    """Fork, and let the new process leave in this way; say how it ended."""
    yield {"before": True}
    pid = os.fork()
    if pid == 0:
        leave_by(leaves)
        if leaves == "yield":
            yield {"in the new process": True}
        return
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    yield {"code": os.waitstatus_to_exitcode(status)}


@function(timeout=60)
def forks_in_a_thread(leaves: str) -> Iterator[dict[str, Any]]:
    """The same, in a thread."""
    yield {"before": True}
    pid = os.fork()
    if pid == 0:
        leave_by(leaves)
        if leaves == "yield":
            yield {"in the new process": True}
        return
    _, status = os.waitpid(pid, 0)
    yield {"code": os.waitstatus_to_exitcode(status)}


def leave() -> None:
    """Exit, in a process of a pool."""
    sys.exit(2)


@function(timeout=60)
async def exits_in_a_pool() -> str:
    """Say what the pool says of that."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            await asyncio.get_running_loop().run_in_executor(pool, leave)
        except SystemExit as error:
            return f"SystemExit: {error.code}"
    return "nothing"


@function(timeout=60)
def leaves_a_busy_pool() -> float:
    """Leave a pool whose process is busy: it is told to terminate. Return how many seconds that takes."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply_async(sleeps)
        begun = time.monotonic()
    return time.monotonic() - begun
