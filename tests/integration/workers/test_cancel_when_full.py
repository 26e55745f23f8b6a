"""Cancel while Redis is full and refuses everything that needs room."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events, follow, start
from tests.support.files import left, open_gate
from tests.support.logs import log_of, written
from tests.support.processes import Process, worker_process
from tests.support.redis_servers import Full
from tests.support.settings import QUICK
from tests.support.tasks import ended, renewed
from tests.support.workers import freeze, thaw

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.fixture
def one_worker(own_url: str) -> Iterator[Process]:
    """A worker of the test's own."""
    with worker_process(own_url, **QUICK) as worker:
        yield worker


@pytest.mark.parametrize("every", [0.02, 3600])
async def test_a_running_task_is_cancelled(
    own_client: httpx.AsyncClient, own: Redis, one_worker: Process, full: Full, folder: Path, every: float
) -> None:
    """202: its stream ends `cancelled` and its function's clean-up runs, though neither needs to wait for room. When
    there is room again, all is noted and nothing is added.
    """
    task_id = await start(own_client, "ticks", folder=str(folder), to=100_000, every=every)
    await written(own, task_id, 1)
    reader = asyncio.create_task(events(own_client, task_id))
    await full.on()
    answer = await own_client.delete(f"/tasks/{task_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    await left(folder, "cleaned.1.*")
    assert (await reader)[-1].event == "cancelled"
    assert (await own_client.delete(f"/tasks/{task_id}")).status_code == 200
    log = await log_of(own, task_id)

    await full.off()
    assert await ended(own, task_id) == log
    assert (log[-1], len(log) - 1) == (
        ("cancelled", 1, {"by": "client"}),
        len((await follow(own_client, task_id))[0]),
    )
    assert await own.hget(keys.metadata(task_id), "status") == b"cancelled"
    assert await follow(own_client, await start(own_client, "count", to=1)) == ([1], "done", {"chunks": 1})


async def test_a_worker_that_missed_the_call_learns_of_it(
    own_client: httpx.AsyncClient, own: Redis, one_worker: Process, full: Full, folder: Path
) -> None:
    """Its connection for calls was gone at that moment: it stops the silent function at its next renewal."""
    task_id = await start(own_client, "ticks", folder=str(folder), to=2, every=3600)
    await written(own, task_id, 1)
    await full.on()
    freeze(one_worker)
    try:
        for client in await own.client_list():
            if client["sub"] != "0" and client["name"] == "tailrace-worker":
                await own.client_kill_filter(_id=client["id"])
        answer = await own_client.delete(f"/tasks/{task_id}")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    finally:
        thaw(one_worker)
    await left(folder, "cleaned.1.*")
    await full.off()
    assert await ended(own, task_id) == [("chunk", 1, 1), ("cancelled", 1, {"by": "client"})]


async def test_a_queued_task_is_cancelled(own_client: httpx.AsyncClient, own: Redis, full: Full, own_url: str) -> None:
    """It ends, and no worker runs it when there is room."""
    task_id = await start(own_client, "count", to=3)
    await full.on()
    assert (await own_client.delete(f"/tasks/{task_id}")).status_code == 202
    await full.off()
    with worker_process(own_url, **QUICK):
        assert await ended(own, task_id) == [("cancelled", 0, {"by": "client"})]
        assert await follow(own_client, await start(own_client, "count", to=1)) == ([1], "done", {"chunks": 1})
    assert (await log_of(own, task_id))[1:] == []


async def test_a_silent_task_keeps_its_lease(
    own_client: httpx.AsyncClient, own: Redis, one_worker: Process, full: Full, folder: Path, gate: Path
) -> None:
    """Recovery does not take it for abandoned while Redis is full, for longer than a lease; then it goes on."""
    task_id = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=1)
    await written(own, task_id, 1)
    await full.on()
    for _ in range(8):  # longer than a lease
        await renewed(own, task_id)
    await full.off()
    open_gate(gate)
    assert await follow(own_client, task_id) == ([0, "after"], "done", {"chunks": 2})
