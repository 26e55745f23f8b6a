"""The cost of a reader that only waits: memory of the process, and connections to Redis."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from bench import fanout, machine
from bench.peers.tailrace import Tailrace
from bench.readers import Load
from bench.results import Figure
from bench.work import Work

# Seconds for the process to come to rest.
SETTLE_S = 3


async def idle(system: Tailrace, readers: int) -> list[Figure]:
    """So many readers of one silent stream."""
    stream = await system.stream(Work(1))
    before = machine.memory_of(system.api.pid)
    after: list[int] = []

    async def look() -> None:
        await asyncio.sleep(SETTLE_S)
        clients: Any = await system.redis.client_list()
        ours = [each for each in clients if each["name"].startswith(("tailrace-api", "tailrace-hub"))]
        after.extend([machine.memory_of(system.api.pid), len(ours)])
        await stream.publish()

    async with AsyncExitStack() as stack:
        seen = await fanout.read(stack, Load(stream.url, readers, 1, limit_s=60, headers=dict(system.headers)), look)
    assert seen["complete"] == readers, seen
    work = f"{readers:,} idle readers"
    return [
        Figure(work, system.name, "KiB each", (after[0] - before) / 1024 / readers, less=True),
        Figure(work, system.name, "connections to Redis", after[1], less=True),
    ]
