"""Tasks that do nothing: how many a worker gets through, and how long one takes to begin; beside plain Taskiq."""

import asyncio
import json
import os
import signal
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

from bench import machine
from bench.peers.http import Poster
from bench.peers.tailrace import Tailrace
from bench.results import Figure
from plugins import keys

PER_SECOND = "tasks of a no-op function"
TO_START = "from POST to first chunk"
TO_FOLLOW = "from POST to first chunk, by a second request"
PLAIN = "plain Taskiq"
NOTHING_KEPT = "POST, kick, publish, answer"

FIRST_CHUNK = b"data: 1\n"

# Connections that tasks are submitted through at once.
CLIENTS = 8


async def per_second(system: Tailrace, tasks: int) -> list[Figure]:
    """A queue that is full when the worker comes, until every task has its end."""
    # Not for 10 s: a worker that has stood still for longer gives its read up, with the message that it had got.
    os.killpg(system.worker.pid, signal.SIGSTOP)
    await asyncio.gather(*(_submit(system, tasks // CLIENTS) for _ in range(CLIENTS)))
    os.killpg(system.worker.pid, signal.SIGCONT)
    started = time.perf_counter()
    while await system.redis.zcard(keys.OPEN):  # noqa: ASYNC110  # Redis has no event for it
        await asyncio.sleep(0.005)
    return [Figure(PER_SECOND, system.name, "tasks/s", tasks / (time.perf_counter() - started))]


async def _submit(system: Tailrace, tasks: int) -> None:
    function = json.dumps({"function": "nothing"}).encode()
    async with Poster(f"{system.url}/tasks", "application/json", headers=system.headers) as start:
        for _ in range(tasks):
            await start.post(function)


async def to_start(system: Tailrace, tasks: int) -> list[Figure]:
    """From POST until its client has the bytes of the first chunk, one task after another: in the answer to the POST
    itself, and in that to a second request.
    """
    function = json.dumps({"function": "one"}).encode()
    async with Poster(system.url, "application/json", "text/event-stream", system.headers) as follow:
        at_once = await _followed(follow, tasks)
    after: list[float] = []
    async with (
        Poster(f"{system.url}/tasks", "application/json", headers=system.headers) as start,
        Poster(system.url, "text/plain", headers=system.headers) as follow,
    ):
        for _ in range(tasks):
            started = time.perf_counter()
            answer = json.loads(await start.post(function))
            await follow.follow(answer["stream_url"], FIRST_CHUNK)
            after.append(time.perf_counter() - started)
            await follow.rest()
    return [
        Figure(work, system.name, "p50 ms", statistics.median(ages) * 1e3, less=True)
        for work, ages in ((TO_START, at_once), (TO_FOLLOW, after))
    ]


async def plain(stack: AsyncExitStack, redis_url: str, tasks: int, timed: int) -> list[Figure]:
    """The same for plain Taskiq: until every message is acknowledged; and from the kick until the task has begun."""
    from bench.peers import plain_taskiq

    command = ["-m", "taskiq", "worker", "bench.peers.plain_taskiq:broker", "--workers", "1"]
    worker = machine.start(stack, machine.python(*command), {"REDIS_URL": redis_url})
    await asyncio.to_thread(worker.wait_for, "Listening started")
    broker = plain_taskiq.broker
    redis: Redis = Redis.from_url(redis_url)
    # The broker is made when its module is imported; here it has to use this Redis.
    broker.connection_pool = BlockingConnectionPool.from_url(redis_url)
    ages = [await _age(redis, plain_taskiq) for _ in range(timed)]
    os.killpg(worker.pid, signal.SIGSTOP)
    for number in range(tasks):
        await plain_taskiq.nothing.kiq(str(number))
    os.killpg(worker.pid, signal.SIGCONT)
    started = time.perf_counter()
    while await _busy(redis, broker):  # noqa: ASYNC110  # the same
        await asyncio.sleep(0.005)
    rate = tasks / (time.perf_counter() - started)
    await redis.aclose()
    return [
        await nothing_kept(stack, redis_url, timed),
        Figure(PER_SECOND, PLAIN, "tasks/s", rate),
        *(Figure(work, PLAIN, "p50 ms", statistics.median(ages) / 1e6, less=True) for work in (TO_START, TO_FOLLOW)),
    ]


async def nothing_kept(stack: AsyncExitStack, redis_url: str, timed: int) -> Figure:
    """From POST to first chunk where plain Taskiq's worker runs the task: no less is possible."""
    command = ["-m", "uvicorn", "--factory", "bench.peers.nothing_kept:create_app", "--port", "0", "--no-access-log"]
    server = machine.start(stack, machine.pinned(machine.SERVER, machine.python(*command)), {"REDIS_URL": redis_url})
    url = await asyncio.to_thread(server.wait_for, r"running on (http://[\d.:]+)")
    async with Poster(url.group(1), "application/json") as poster:
        ages = await _followed(poster, timed)
    return Figure(TO_START, NOTHING_KEPT, "p50 ms", statistics.median(ages) * 1e3, less=True)


async def _followed(poster: Poster, tasks: int) -> list[float]:
    function = json.dumps({"function": "one"}).encode()
    ages: list[float] = []
    for _ in range(tasks):
        started = time.perf_counter()
        await poster.follow("/tasks", FIRST_CHUNK, function)
        ages.append(time.perf_counter() - started)
        await poster.rest()
    return ages


async def _age(redis: Redis, plain_taskiq: Any) -> int:
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(plain_taskiq.STARTED)
        await pubsub.get_message(timeout=5)
        kicked = time.time_ns()
        await plain_taskiq.started.kiq("")
        while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)) is None:
            pass
        return int(message["data"].removeprefix(b"@")) - kicked


async def _busy(redis: Redis, broker: Any) -> bool:
    groups: Any = await redis.xinfo_groups(broker.queue_name)
    return any(group["pending"] or group["lag"] for group in groups)
