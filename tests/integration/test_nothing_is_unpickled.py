"""Whatever reaches the services, they read it as JSON: a pickle runs the code of the client that wrote it."""

import json
import os
import pickle
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from plugins import keys
from plugins.message import FIELD
from tests.support.client import follow, start
from tests.support.processes import ROOT, Process
from tests.support.system import System, system

pytestmark = pytest.mark.anyio

FOLDER: Final = ROOT / "tests" / "support" / "never_unpickled"

# Without a `PYTHONPATH` of its own, Python finds the project in its working directory.
ENV: Final = {"PYTHONPATH": os.pathsep.join([str(FOLDER), str(ROOT)])}


class Touches:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
async def guarded(own_database: str) -> AsyncIterator[System]:
    """A worker and an API in which unpickling fails, and says so."""
    async with system(own_database, worker=ENV, api=ENV) as running:
        yield running
        outputs = (running.worker.output, running.api.process.output)
        assert all("nothing can be unpickled" in output for output in outputs)
        assert not any("UNPICKLED" in output for output in outputs)


def test_the_guard() -> None:
    """It does what the other tests rely on."""
    program = "import pickle; pickle.loads(pickle.dumps(1))"
    process = Process([sys.executable, "-c", program], ENV)
    assert process.wait() != 0
    assert "UNPICKLED" in process.output


async def test_a_life_of_a_task(guarded: System) -> None:
    """A task runs, is listed, is cancelled, and no service unpickles anything."""
    client = guarded.client
    assert await follow(client, await start(client, "count", to=3)) == ([1, 2, 3], "done", {"chunks": 3})
    task_id = await start(client, "count", to=2, every=60)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    for path in ("/tasks", "/functions", "/schema", "/health/ready", f"/tasks/{task_id}/chunks"):
        assert (await client.get(path)).status_code == 200
    assert (await client.post("/tasks", content=pickle.dumps({"function": "count"}))).status_code == 400


async def test_a_pickle_on_the_queue(guarded: System, own_database: str, tmp_path: Path) -> None:
    """The worker drops it unread, and runs the next task."""
    note = tmp_path / "unpickled"
    async with Redis.from_url(own_database) as redis:
        await redis.xadd(keys.QUEUE, {FIELD: pickle.dumps(Touches(note))})
        assert await follow(guarded.client, await start(guarded.client, "count", to=1)) == ([1], "done", {"chunks": 1})
    assert "invalid message dropped" in guarded.worker.output
    assert not note.exists()


async def test_a_message_on_the_queue_is_json(own_database: str, guarded: System) -> None:
    """Any client of Redis can read a message, and learn from it what the worker is told."""
    guarded.worker.stop()
    task_id = await start(guarded.client, "count", to=1)
    async with Redis.from_url(own_database) as redis:
        entries: Any = await redis.xrange(keys.QUEUE)
        ((_, fields),) = entries
        assert json.loads(fields[FIELD])["args"] == [task_id]
        await redis.delete(keys.QUEUE, keys.OPEN)
