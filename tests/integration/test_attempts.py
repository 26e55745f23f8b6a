"""More than one attempt: what readers get, what a function gets, and what is written down."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, events, start
from tests.support.files import appeared
from tests.support.processes import api_process, worker_process
from tests.support.settings import BRIEF
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


def marks(seen: list[ServerSentEvent]) -> list[Any]:
    """What is said of new attempts."""
    return [json.loads(event.data) for event in seen if event.event == "attempt"]


def kept(seen: list[ServerSentEvent]) -> list[Any]:
    """What a reader has in the end that drops what it is told to drop."""
    chunks: list[Any] = []
    for event in seen:
        if event.event == "attempt" and not json.loads(event.data)["keeps"]:
            chunks = []
        elif event.event == "message":
            chunks.append(json.loads(event.data))
    return chunks


async def test_a_function_that_works_at_the_third_attempt(client: httpx.AsyncClient, redis: Redis) -> None:
    """Each attempt is announced in the stream, readers drop what came before, and only the last one counts."""
    task_id = await start(client, "fails_at_first", times=2)
    seen = await events(client, task_id)

    assert [event.id for event in seen] == [str(seq) for seq in range(len(seen))]
    assert marks(seen) == [{"attempt": 2, "keeps": False}, {"attempt": 3, "keeps": False}]
    assert kept(seen) == ["this", "is", "3"]
    assert (seen[-1].event, json.loads(seen[-1].data)) == ("done", {"chunks": 3})
    status = (await client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["attempt"], status["chunks"]) == ("done", 3, 3)
    assert await redis.zscore(keys.OPEN, task_id) is None


async def test_a_function_that_never_works(client: httpx.AsyncClient, redis: Redis) -> None:
    """After the last attempt the task ends as failed, with that attempt's reason."""
    seen = await events(client, await start(client, "fails_at_first", times=3))

    assert len(marks(seen)) == 2
    assert kept(seen) == ["lost 3", "lost too"]
    why = {"code": "error", "message": "ConnectionError: attempt 3"}
    assert (seen[-1].event, json.loads(seen[-1].data)) == ("failed", why)


async def test_a_function_that_continues(client: httpx.AsyncClient, redis: Redis) -> None:
    """A resumable one gets what was yielded and goes on behind it: readers have everything once, and drop nothing."""
    task_id = await start(client, "counts_on", to=1_000, stumbles=[1, 500, 999])
    seen = await events(client, task_id)

    assert marks(seen) == [{"attempt": attempt, "keeps": True} for attempt in (2, 3, 4)]
    assert data(seen) == kept(seen) == list(range(1, 1_001))
    assert (seen[-1].event, json.loads(seen[-1].data)) == ("done", {"chunks": 1_000})
    assert (await client.get(f"/tasks/{task_id}")).json()["chunks"] == 1_000


async def test_the_number_of_attempts_is_announced(client: httpx.AsyncClient, redis: Redis) -> None:
    """Whoever starts a function can see how often it may be tried, and that its context is no part of the input."""
    function = (await client.get("/functions/counts_on")).json()
    assert (function["retries"], function["resumable"]) == (5, True)
    assert set(function["input"]["properties"]) == {"to", "stumbles"}


async def test_two_attempts_meet_in_one_worker(own_database: str, tmp_path: Path) -> None:
    """A worker that was frozen gets its own task again while the first attempt still cleans up: each has its end."""
    with api_process(own_database, **BRIEF) as api, worker_process(own_database, **BRIEF) as worker:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            task_id = await start(client, "lingers", folder=str(tmp_path))
            await events(client, task_id, most=1)
            os.killpg(worker.pid, signal.SIGSTOP)
            await asyncio.to_thread(api.process.wait_for, "taken from a lost worker")
            os.killpg(worker.pid, signal.SIGCONT)
            seen = await events(client, task_id, most=3)
            assert [event.data for event in seen] == ["1", '{"attempt":2,"keeps":false}', "2"]

            await asyncio.to_thread((tmp_path / "go").touch)
            await appeared(tmp_path / "gone 1")
            assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
            await appeared(tmp_path / "gone 2")
        assert worker.stop() == 0
        assert "KeyError" not in worker.output
