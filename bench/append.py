"""How fast chunks get into Redis, without readers: into one stream, and into many that one worker writes."""

import asyncio
import time
from typing import Any

from bench.peers import System
from bench.peers.tailrace import Published, Tailrace
from bench.results import Figure
from bench.work import Work
from plugins import keys


async def one(system: System, chunks: int) -> list[Figure]:
    """Chunks per second of a single stream, from the first one until all are acknowledged."""
    stream = await system.stream(Work(chunks))
    started = time.perf_counter()
    await stream.publish()
    rate = chunks / (time.perf_counter() - started)
    return [Figure("append to one stream", system.name, "chunks/s", rate)]


async def many(system: Tailrace, streams: int, chunks: int) -> list[Figure]:
    """All streams together; and, when half of it is written, how far the first is ahead of the last."""
    opened = [await system.stream(Work(chunks)) for _ in range(streams)]
    started = time.perf_counter()
    for stream in opened:
        await stream.begin()
    total, spread = streams * (chunks + 1), 0.0
    while sum(lengths := await _lengths(system, opened)) < total:
        if not spread and sum(lengths) >= total / 2:
            spread = max(lengths) / max(1, min(lengths))
        await asyncio.sleep(0.01)
    work = f"append to {streams} streams on one worker"
    return [
        Figure(work, system.name, "chunks/s", streams * chunks / (time.perf_counter() - started)),
        Figure(work, system.name, "first / last", spread, less=True),
    ]


async def _lengths(system: Tailrace, opened: list[Published]) -> list[int]:
    async with system.redis.pipeline(transaction=False) as pipeline:
        for stream in opened:
            pipeline.llen(keys.log(stream.task_id))
        lengths: list[int] = await pipeline.execute()
    return lengths


async def commands(system: Tailrace, work: Work) -> list[Figure]:
    """The cost of a chunk to Redis: commands, those within scripts included, and bytes of traffic each way."""
    stream = await system.stream(work)
    before = await _statistics(system)
    await stream.publish()
    after = await _statistics(system)
    name = f"one stream at {work.rate:g} chunks/s" if work.rate else "one stream in a burst"
    return [
        Figure(name, system.name, f"{what} per chunk", (after[what] - before[what]) / work.chunks, less=True)
        for what in before
    ]


async def _statistics(system: Tailrace) -> dict[str, float]:
    commands: Any = await system.redis.info("commandstats")
    traffic: Any = await system.redis.info("stats")
    # Our own looks at the log, by LINDEX outside a script, cannot be told apart; they are a few hundred in all.
    return {
        "round trips": commands.get("cmdstat_eval", {"calls": 0})["calls"],
        "commands": sum(each["calls"] for name, each in commands.items() if name != "cmdstat_lindex"),
        "bytes in": traffic["total_net_input_bytes"],
        "bytes out": traffic["total_net_output_bytes"],
    }
