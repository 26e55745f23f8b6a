"""The least that live delivery can cost here: one Redis publish, heard by one subscriber, both with redis-py."""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack

import uvloop
from redis.asyncio import Redis

from bench import machine
from bench.results import Figure
from bench.work import MARK, Work, chunks_of

CHANNEL = "bench:hop"


async def hop(redis_url: str, work: Work) -> list[Figure]:
    """From the making of a chunk until another process has it."""
    async with AsyncExitStack() as stack:
        command = machine.python("-m", "bench.hop", redis_url, str(work.chunks))
        subscriber = machine.start(stack, machine.pinned(machine.READERS, command))
        await asyncio.to_thread(subscriber.wait_for, "open\n")
        async with Redis.from_url(redis_url) as redis:
            async for chunk in chunks_of(work):
                await redis.publish(CHANNEL, chunk)
        await asyncio.to_thread(subscriber.wait)
        ages = sorted(json.loads(subscriber.lines[-1]))
    name = f"{work.rate:g} chunks/s to 1 readers"
    return [
        Figure(name, "publish → subscribe", "p50 ms", ages[len(ages) // 2] / 1e6, less=True),
        Figure(name, "publish → subscribe", "p99 ms", ages[len(ages) * 99 // 100] / 1e6, less=True),
    ]


async def subscribe(redis_url: str, chunks: int) -> list[int]:
    """Ages of so many chunks, in ns."""
    ages: list[int] = []
    async with Redis.from_url(redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        while len(ages) < chunks:
            message = await pubsub.get_message(timeout=10)
            if message is None:
                raise TimeoutError
            if message["type"] == "subscribe":
                print("open", flush=True)
            else:
                ages.append(time.time_ns() - int(message["data"].removeprefix(MARK)))
    return ages


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(subscribe(sys.argv[1], int(sys.argv[2])))))
