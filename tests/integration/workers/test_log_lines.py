"""Tasks in a worker's log."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.support.client import events, start
from tests.support.files import left
from tests.support.processes import worker_process

pytestmark = pytest.mark.anyio


async def test_a_line_in_the_log(own_url: str, own_client: httpx.AsyncClient, folder: Path) -> None:
    """A function's log lines name its task, without code of its author's."""
    with worker_process(own_url) as worker:
        task_id = await start(own_client, "sleeps_until_told", folder=str(folder))
        await events(own_client, task_id, most=1)
        line = await asyncio.to_thread(worker.wait_for, r".*about to sleep.*")
        assert task_id in line.group()
        assert "sleeps_until_told" in line.group()
        await own_client.delete(f"/tasks/{task_id}")
        await left(folder, "woken again True")
