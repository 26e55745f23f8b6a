"""Late readers: a log that has its end, read from its start; beside what Redis alone gives to a bare client."""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio import Redis

from bench import fanout, machine
from bench.peers.tailrace import Published, Tailrace
from bench.readers import Load
from bench.results import Figure
from bench.work import Work
from plugins import keys

# Entries per LRANGE of the bare client: the more, the faster it is, up to about this.
PAGE = 1_000


async def written(system: Tailrace, chunks: int) -> Published:
    """A stream that has ended."""
    stream = await system.stream(Work(chunks))
    await stream.publish()
    return stream


async def replay(system: Tailrace, stream: Published, readers: int, chunks: int = 100_000) -> list[Figure]:
    """Events per second, all readers together, from the first connection on."""
    async with AsyncExitStack() as stack:
        load = Load(stream.url, readers, chunks, sample_every=0, limit_s=120, headers=dict(system.headers))
        seen = await fanout.read(stack, load, _nothing)
    assert seen["complete"] == readers, seen
    seconds = (seen["last_ns"] - seen["begun_ns"]) / 1e9
    return [Figure(f"replay of {chunks:,} to {readers} readers", system.name, "events/s", seen["events"] / seconds)]


async def _nothing() -> None:
    pass


async def bare(redis_url: str, stream: Published, chunks: int) -> list[Figure]:
    """LRANGE, by redis-py, in pages."""
    async with AsyncExitStack() as stack:
        command = machine.python("-m", "bench.replay", redis_url, keys.log(stream.task_id), str(chunks))
        process = machine.start(stack, machine.pinned(machine.READERS, command))
        await asyncio.to_thread(process.wait, 60)
        rate = json.loads(process.lines[-1])
    return [Figure(f"replay of {chunks:,} to 1 readers", "LRANGE alone", "events/s", rate)]


async def lrange(redis_url: str, log: str, chunks: int) -> float:
    """Entries per second."""
    async with Redis.from_url(redis_url) as redis:
        await redis.ping()
        started = time.perf_counter()
        for start in range(0, chunks, PAGE):
            lines: Any = await redis.lrange(log, start, start + PAGE - 1)
            assert lines
        return chunks / (time.perf_counter() - started)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(lrange(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
