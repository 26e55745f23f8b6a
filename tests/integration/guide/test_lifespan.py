"""Make something once per process.

A module's `lifespan` makes what its functions need and what is slow to make: a model, a pool. The worker enters it
before it takes a task, and leaves it when it stops. A function gets what was made for a parameter of that type, which
is no part of its input.
"""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.support.client import client_of, follow, start
from tests.support.processes import api_process, worker_process

pytestmark = pytest.mark.anyio


async def test_every_task_gets_what_was_made_once(client: httpx.AsyncClient) -> None:
    """Two tasks of one worker have the same pool, and a client does not see it."""
    (first,), (second,) = [(await follow(client, await start(client, "uses_the_pool")))[0] for _ in range(2)]
    assert second == first + 1
    assert (await client.get("/functions/uses_the_pool")).json()["input"]["properties"] == {}


async def test_it_is_left_when_the_worker_stops(own_database: str, tmp_path: Path) -> None:
    """The code behind the `yield` runs after the last task, and before the process ends."""
    note = tmp_path / "note"
    with worker_process(own_database, POOL_NOTE=str(note)) as worker, api_process(own_database) as api:
        async with client_of(api) as client:
            assert (await follow(client, await start(client, "uses_the_pool")))[0] == [1]
        assert not note.exists()
        assert await asyncio.to_thread(worker.stop) == 0
    assert note.read_text() == "used 1 times"
