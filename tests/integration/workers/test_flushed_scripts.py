"""SCRIPT FLUSH, as an operator, a restart or a failover brings it: it costs a round trip, and fails nothing."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse
from redis.asyncio import Redis

from plugins import entries, keys
from tests.support.client import follow, start
from tests.support.files import left
from tests.support.logs import written
from tests.support.processes import worker_process
from tests.support.settings import QUICK
from tests.support.tasks import ended, renewed
from tests.support.waiting import DEADLINE_S
from tests.support.workers import holder

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_in_the_middle_of_a_stream(own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path) -> None:
    """After every chunk that arrives: the stream is whole."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "ticks", folder=str(folder), to=100, every=0.02)
        got = 0
        async with aconnect_sse(own_client, "GET", f"/tasks/{task_id}/stream", timeout=DEADLINE_S) as source:
            async for event in source.aiter_sse():
                if event.event == "message" and event.data:
                    got += 1
                    await own.script_flush()
        log = await ended(own, task_id)
    assert got == 100
    assert log == [*(("chunk", 1, number) for number in range(1, 101)), ("done", 1, {"chunks": 100})]


async def test_before_a_claim(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """Tasks that start right after it run."""
    with worker_process(own_url, **QUICK):
        for _ in range(10):
            await own.script_flush()
            assert (await follow(own_client, await start(own_client, "count", to=2)))[:2] == ([1, 2], "done")


async def test_before_renewals(own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path) -> None:
    """The lease of a silent function is renewed all the same, time after time."""
    with worker_process(own_url, **QUICK) as worker:
        task_id = await start(own_client, "ticks", folder=str(folder), to=2, every=3600)
        await written(own, task_id, 1)
        for _ in range(4):
            await own.script_flush()
            await renewed(own, task_id)
        await own_client.delete(f"/tasks/{task_id}")
        await left(folder, "cleaned.1.*")
        assert "background task failed" not in worker.output


async def test_before_a_cancel(own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path) -> None:
    """DELETE ends the stream, and the function's clean-up runs."""
    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "ticks", folder=str(folder), to=2, every=3600)
        await written(own, task_id, 1)
        await own.script_flush()
        answer = await own_client.delete(f"/tasks/{task_id}")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        await left(folder, "cleaned.1.*")
        assert await ended(own, task_id) == [("chunk", 1, 1), ("cancelled", 1, {"by": "client"})]


async def test_when_a_task_is_given_back(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """An attempt that failed is followed by the next one, though no script is there that was there before."""
    with worker_process(own_url, **QUICK) as worker:
        task_id = await start(own_client, "backs_off", times=2)
        flushing = asyncio.create_task(flush_at_every_change(own, task_id))
        log = await ended(own, task_id)
        await flushing
        assert "NoScriptError" not in worker.output
    assert log[-1] == ("done", 3, {"chunks": 3})


async def test_when_a_worker_was_lost(own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path) -> None:
    """Its task is taken from it, queued, claimed and continued, and again no script is there."""
    with worker_process(own_url, **QUICK) as one, worker_process(own_url, **QUICK) as other:
        task_id = await start(own_client, "ticks_on", folder=str(folder), to=40, every=[0.05, 0.02])
        await written(own, task_id, 3)
        victim = await holder(own, task_id, [one, other])
        flushing = asyncio.create_task(flush_at_every_change(own, task_id))
        victim.kill()
        log = await ended(own, task_id)
        await flushing
    assert log[-1] == ("done", 2, {"chunks": 40})
    assert [value for event, _, value in log if event == "chunk"] == list(range(1, 41))


async def flush_at_every_change(own: Redis, task_id: str) -> None:
    """Flush whenever the task gets another status, until it has ended."""
    status: Any = b""
    while status.decode() not in entries.ENDS:
        before, status = status, await own.hget(keys.metadata(task_id), "status") or b""
        if status != before:
            await own.script_flush()
        await asyncio.sleep(0.01)
