"""Pause a function.

`PUT /functions/{name}/paused` keeps workers from starting a function, without a deploy. Its tasks are taken and wait,
and what runs already goes on. After `DELETE /functions/{name}/paused` those that have waited start.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.client import events, follow, pause, resume, start, status_of
from tests.support.files import open_gate
from tests.support.processes import Process

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@asynccontextmanager
async def paused(client: httpx.AsyncClient, worker: Process, function: str) -> AsyncIterator[None]:
    """Meanwhile the function is paused."""
    await pause(client, function, heard_by=[worker])
    try:
        yield
    finally:
        await resume(client, function)


async def test_a_paused_function_is_not_started(client: httpx.AsyncClient, worker: Process) -> None:
    """Its tasks are taken and wait, other functions run; resumed, it starts what has waited."""
    async with paused(client, worker, "words"):
        waiting = await start(client, "words", text="at last")
        assert (await follow(client, await start(client, "count", to=1)))[1] == "done"
        assert (await status_of(client, waiting))["status"] == "queued"
        assert (await client.get("/functions/words")).json()["paused"] is True
    assert await follow(client, waiting) == (["at ", "last"], "done", {"chunks": 2})


async def test_what_runs_already_goes_on(client: httpx.AsyncClient, worker: Process, tmp_path: Path) -> None:
    """A function that is paused while it runs comes to its end."""
    gate = tmp_path / "gate"
    task_id = await start(client, "waits", folder=str(tmp_path), gate=str(gate), chunks=1)
    await events(client, task_id, most=1)
    async with paused(client, worker, "waits"):
        open_gate(gate)
        assert await follow(client, task_id) == ([0, "after"], "done", {"chunks": 2})
