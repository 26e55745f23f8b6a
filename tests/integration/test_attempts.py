"""More than one attempt in one worker. guide/ shows attempts as readers and functions see them."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.client import events, start
from tests.support.files import appeared
from tests.support.processes import api_process, worker_process
from tests.support.settings import BRIEF
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_two_attempts_meet_in_one_worker(own_database: str, tmp_path: Path) -> None:
    """A worker that was frozen gets its own task again while the first attempt still cleans up: each has its end."""
    with api_process(own_database, **BRIEF) as api, worker_process(own_database, **BRIEF) as worker:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            task_id = await start(client, "lingers", folder=str(tmp_path))
            await events(client, task_id, most=1)
            os.killpg(worker.pid, signal.SIGSTOP)
            await asyncio.to_thread(api.process.wait_for, "lease expired, task released")
            os.killpg(worker.pid, signal.SIGCONT)
            seen = await events(client, task_id, most=3)
            assert [event.data for event in seen] == ["1", '{"attempt":2,"keeps":false}', "2"]

            await asyncio.to_thread((tmp_path / "go").touch)
            await appeared(tmp_path / "gone 1")
            assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
            await appeared(tmp_path / "gone 2")
        assert worker.stop() == 0
        assert "KeyError" not in worker.output
