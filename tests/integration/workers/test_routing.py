"""Workers with different functions: each task reaches one that has its function, whichever meets it first."""

import asyncio
import signal
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from plugins.limits import Ticket
from plugins.message import Message
from services.worker.queue.parked import Parking
from services.worker.queue.slots import Slots
from services.worker.redis_client.batcher import Batcher
from tests.support.client import events, follow, start
from tests.support.messages import drained
from tests.support.processes import worker_process
from tests.support.settings import NO_RENEWAL, QUICK
from tests.support.tasks import ended
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# `count` is in the one folder, `is_short` in the other.
EXAMPLES = {"FUNCTIONS_PATH": "functions"}
TESTS = {"FUNCTIONS_PATH": "tests/functions"}

TICKET = Ticket("0" * 32, 0)


async def added(redis: Redis) -> int:
    """How many messages there have been on the queue."""
    info: Any = await redis.xinfo_stream(keys.QUEUE)
    return int(info["entries-added"])


@pytest.mark.parametrize("flags", [(), ("--max-async-tasks", "2")])
async def test_two_workers_with_different_functions(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, flags: tuple[str, ...]
) -> None:
    """Forty tasks of each kind, mixed: every one is done, at its first attempt, though no beat helps."""
    with (
        worker_process(own_url, *flags, **NO_RENEWAL, **EXAMPLES),
        worker_process(own_url, *flags, **NO_RENEWAL, **TESTS),
    ):
        ids = []
        for _ in range(40):
            ids.append(await start(own_client, "count", to=2))
            ids.append(await start(own_client, "is_short", chunks=2))
        for task_id in ids:
            log = await ended(own, task_id)
            assert log[-1] == ("done", 1, {"chunks": 2})
        await drained(own)


async def test_a_worker_that_comes_later(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """The only worker lacks the function: its tasks wait, without a word of failure, for one that has it."""
    with worker_process(own_url, **NO_RENEWAL, **TESTS):
        ids = [await start(own_client, "count", to=2) for _ in range(3)]
        await until(lambda: all_held(own, "count", 3))
        await drained(own)
        with worker_process(own_url, **NO_RENEWAL, **EXAMPLES):
            for task_id in ids:
                assert await follow(own_client, task_id) == ([1, 2], "done", {"chunks": 2})
            for task_id in ids:
                await ended(own, task_id)


async def test_the_one_that_has_it_is_busy(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """A task waits for its only slot, without going round between the workers; then it runs."""
    with worker_process(own_url, "--max-async-tasks", "1", **NO_RENEWAL, **EXAMPLES):
        first = await start(own_client, "count", to=2, every=3_600)
        await events(own_client, first, most=1)
        with worker_process(own_url, **NO_RENEWAL, **TESTS):
            second = await start(own_client, "count", to=2)
            await until(lambda: all_held(own, "count", 1))
            before = await added(own)
            for _ in range(20):  # the workers do something else, again and again
                await follow(own_client, await start(own_client, "is_short", chunks=1))
            assert await added(own) - before <= 20 + 2
            assert (await own_client.delete(f"/tasks/{first}")).status_code == 202
            assert (await ended(own, second))[-1] == ("done", 1, {"chunks": 2})
            await ended(own, first)
            await drained(own)


async def test_a_worker_that_is_leaving_does_not_send_it_round(
    own_url: str, own_client: httpx.AsyncClient, own: Redis
) -> None:
    """The only worker that has the function is in its grace, with free slots. The task waits for another one, and
    no worker is busy with it.
    """
    with worker_process(own_url, **QUICK, **EXAMPLES, TAILRACE_DRAIN_S="3600") as leaving:
        first = await start(own_client, "count", to=2, every=3_600)
        await events(own_client, first, most=1)
        leaving.signal(signal.SIGTERM)
        await asyncio.to_thread(leaving.wait_for, "draining")
        with worker_process(own_url, **QUICK, **TESTS):
            second = await start(own_client, "count", to=2)
            await until(lambda: all_held(own, "count", 1))
            before = await added(own)
            for _ in range(20):
                await follow(own_client, await start(own_client, "is_short", chunks=1))
            assert await added(own) - before == 20
            with worker_process(own_url, **QUICK, **EXAMPLES):
                assert (await ended(own, second))[-1] == ("done", 1, {"chunks": 2})
            await own_client.delete(f"/tasks/{first}")
            assert await asyncio.to_thread(leaving.wait) == 0
            await ended(own, first)
            await drained(own)


async def test_those_that_waited_start_in_order(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path
) -> None:
    """A worker that lacks the function parks them again in their old place. Only messages in flight are overtaken."""
    file = tmp_path / "lines"
    numbers = [str(number) for number in range(30)]
    with worker_process(own_url, **NO_RENEWAL, **EXAMPLES):
        for number in numbers:
            await start(own_client, "lines_up", file=str(file), line=number)
        await until(lambda: all_held(own, "lines_up", len(numbers)))
        with worker_process(own_url, "--max-async-tasks", "1", **NO_RENEWAL, **TESTS):
            await until(lambda: all_held(own, "lines_up", 0))
            await until(lambda: nothing_runs(own))
            await drained(own)
    started = (await asyncio.to_thread(file.read_text)).split()
    assert sorted(started) == sorted(numbers)
    # The median: many overtake a message in flight while its worker gets no processor.
    assert median(abs(place - int(number)) for place, number in enumerate(started)) <= 3


async def nothing_runs(redis: Redis) -> bool:
    """Whether every task has ended."""
    return not await redis.zcard(keys.OPEN)


@pytest.fixture
def apart(own: Redis) -> Parking:
    """The parking of one worker, without the worker. It has one slot."""
    return Parking(Batcher(own), {"count"}, Slots(1))


async def test_a_ticket_that_is_held_just_after_the_resume(apart: Parking, own: Redis) -> None:
    """The worker had not heard of it when it met the task, and the look that told it came too early to find it: the
    task goes back on the queue all the same, though no beat helps.
    """
    await own.sadd(keys.PAUSED, "count")
    await apart.scan()
    assert apart.must_park("count")
    await own.srem(keys.PAUSED, "count")
    await apart.scan()
    await apart.park(Message(TICKET.task_id, "count"))
    keeping = asyncio.create_task(apart.run(600))
    await until(lambda: all_held(own, "count", 0))
    await until(lambda: on_the_queue(own, 1))
    keeping.cancel()
    await own.xtrim(keys.QUEUE, 0)


async def test_a_ticket_that_is_held_while_there_is_no_slot(own: Redis) -> None:
    """It stays where it is, and a slot that is freed starts the task, though no beat helps."""
    slots = Slots(1)
    slots.take()
    apart = Parking(Batcher(own), {"count"}, slots)
    await own.zadd(keys.parked("count"), {str(TICKET): 1})
    await apart.scan()
    assert await all_held(own, "count", 1)
    keeping = asyncio.create_task(apart.run(600))
    slots.release()
    await until(lambda: on_the_queue(own, 1))
    await until(lambda: all_held(own, "count", 0))
    keeping.cancel()
    await own.xtrim(keys.QUEUE, 0)


async def on_the_queue(redis: Redis, many: int) -> bool:
    """Whether so many messages are on the queue."""
    return await redis.xlen(keys.QUEUE) == many


async def all_held(redis: Redis, function: str, many: int) -> bool:
    """Whether so many tasks of a function are held."""
    return await redis.zcard(keys.parked(function)) == many
