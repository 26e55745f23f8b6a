"""One stream, many readers, all of them there before the first chunk: in a burst, or at a pace."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from bench import machine
from bench.peers import System
from bench.readers import Load
from bench.results import Figure
from bench.work import Work

# Seconds for subscriptions that a server still has to make when its answers have begun.
SETTLE_S = 1

# Readers that note the age of each chunk. Noting costs more than counting; so few say enough.
SAMPLES = 50


async def read(stack: AsyncExitStack, load: Load, publish: Any) -> dict[str, Any]:
    """The figures of these readers, from a stream that is published once all of them are connected."""
    command = machine.python("-m", "bench.readers", msgspec.json.encode(load).decode())
    readers = machine.start(stack, machine.pinned(machine.READERS, command))
    await asyncio.to_thread(readers.wait_for, "open\n", 120)
    await asyncio.sleep(SETTLE_S)
    started = time.time_ns()
    await publish()
    await asyncio.to_thread(readers.wait, load.limit_s + 30)
    return {"started_ns": started, **json.loads(readers.lines[-1])}


async def burst(system: System, readers: int, chunks: int, limit_s: float = 60) -> list[Figure]:
    """As fast as it goes: events delivered per second, from the first publish to the last byte."""
    async with AsyncExitStack() as stack:
        stream = await system.stream(Work(chunks))
        load = Load(stream.url, readers, chunks, sample_every=0, limit_s=limit_s, headers=dict(system.headers))
        seen = await read(stack, load, stream.publish)
    work = f"burst of {chunks:,} to {readers:,} readers"
    seconds = (seen["last_ns"] - seen["started_ns"]) / 1e9
    return [
        Figure(work, system.name, "events/s", seen["events"] / seconds if seen["events"] else 0),
        Figure(work, system.name, "delivered", seen["events"] / (readers * chunks)),
    ]


async def pace(system: System, readers: int, rate: float, seconds: float = 5) -> list[Figure]:
    """At a pace: how old chunks are when their bytes come, and how many come within a second of the last one."""
    chunks = int(rate * seconds)
    async with AsyncExitStack() as stack:
        stream = await system.stream(Work(chunks, rate))
        every = max(1, readers // SAMPLES)
        load = Load(
            stream.url,
            readers,
            chunks,
            sample_every=every,
            limit_s=seconds + SETTLE_S + 1,
            headers=dict(system.headers),
        )
        seen = await read(stack, load, stream.publish)
    work = f"{rate:g} chunks/s to {readers:,} readers"
    return [
        Figure(work, system.name, "delivered", seen["events"] / (readers * chunks)),
        Figure(work, system.name, "p50 ms", seen["p50_ms"] or 0, less=True),
        Figure(work, system.name, "p99 ms", seen["p99_ms"] or 0, less=True),
        Figure(work, system.name, "readers' processor", seen["cpu_s"] / seconds, less=True),
    ]
