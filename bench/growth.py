"""How it grows: the same work tenfold, and tenfold again. Nothing may take more than tenfold the time."""

import time

from bench import append, fanout
from bench.peers.tailrace import Tailrace
from bench.work import Work

Points = list[tuple[int, float]]


async def chunks(system: Tailrace) -> Points:
    """Seconds to append so many chunks to one stream."""
    points: Points = []
    for many in (1_000, 10_000, 100_000, 1_000_000):
        stream = await system.stream(Work(many))
        started = time.perf_counter()
        await stream.publish()
        points.append((many, time.perf_counter() - started))
    return points


async def readers(system: Tailrace) -> Points:
    """Seconds until each of so many readers has a burst of 500 chunks."""
    points: Points = []
    for many in (10, 100, 1_000, 10_000):
        rate = (await fanout.burst(system, many, 500))[0].value
        points.append((many, many * 500 / rate))
    return points


async def streams(system: Tailrace) -> Points:
    """Seconds to append 1,000 chunks to each of so many streams at once."""
    points: Points = []
    for many in (2, 20, 200):
        rate = (await append.many(system, many, 1_000))[0].value
        points.append((many, many * 1_000 / rate))
    return points
