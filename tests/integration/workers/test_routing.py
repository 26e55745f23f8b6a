"""Workers with different functions: each task reaches one that has its function, whichever meets it first."""

from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.integration.calls import events, follow, start
from tests.integration.workers.test_pause import NEVER
from tests.integration.workers.watching import drained, ended, until
from tests.processes import worker_process

pytestmark = pytest.mark.anyio

# `count` is in the one folder, `is_short` in the other.
EXAMPLES = {"FUNCTIONS_PATH": "functions"}
TESTS = {"FUNCTIONS_PATH": "tests/functions"}


async def added(redis: Redis) -> int:
    """How many messages there have been on the queue."""
    info: Any = await redis.xinfo_stream(keys.QUEUE)
    return int(info["entries-added"])


@pytest.mark.parametrize("flags", [(), ("--max-async-tasks", "2")])
async def test_two_workers_with_different_functions(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, flags: tuple[str, ...]
) -> None:
    """Forty tasks of each kind, mixed: every one is done, at its first attempt, though no beat helps."""
    with worker_process(own_url, *flags, **NEVER, **EXAMPLES), worker_process(own_url, *flags, **NEVER, **TESTS):
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
    with worker_process(own_url, **NEVER, **TESTS):
        ids = [await start(own_client, "count", to=2) for _ in range(3)]
        await until(lambda: all_held(own, "count", 3))
        await drained(own)
        with worker_process(own_url, **NEVER, **EXAMPLES):
            for task_id in ids:
                assert await follow(own_client, task_id) == ([1, 2], "done", {"chunks": 2})
            for task_id in ids:
                await ended(own, task_id)


async def test_the_one_that_has_it_is_busy(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """A task waits for its only slot, without going round between the workers; then it runs."""
    with worker_process(own_url, "--max-async-tasks", "1", **NEVER, **EXAMPLES):
        first = await start(own_client, "count", to=2, every=3_600)
        await events(own_client, first, most=1)
        with worker_process(own_url, **NEVER, **TESTS):
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


async def all_held(redis: Redis, function: str, many: int) -> bool:
    """Whether so many tasks of a function are held."""
    return await redis.zcard(keys.held(function)) == many
