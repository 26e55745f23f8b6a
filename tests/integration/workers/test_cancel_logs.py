"""A cancel is an everyday thing: whatever the function does at that moment, no error is logged."""

import asyncio

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import events, start
from tests.support.processes import worker_process
from tests.support.settings import QUICK
from tests.support.tasks import ended

pytestmark = pytest.mark.anyio

# One in four meets an append that is just being sent.
TASKS = 60
AT_ONCE = 4


async def test_busy_functions_are_cancelled_quietly(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """Functions that write all the time are cancelled in the middle of it, and the worker logs no error for that."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def cancel_one() -> None:
        async with slots:
            task_id = await start(own_client, "own_id", times=1_000_000)
            await events(own_client, task_id, most=1)
            assert (await own_client.delete(f"/tasks/{task_id}")).status_code == 202
            assert (await ended(own, task_id))[-1][0] == "cancelled"

    with worker_process(own_url, **QUICK) as worker:
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(cancel_one())
        assert worker.stop() == 0
        assert "ERROR" not in worker.output, worker.output
        assert "[error" not in worker.output, worker.output
