"""`make run` while its user edits functions: running tasks go on, and new code is there."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, events, follow, start
from tests.support.processes import Api, Process, api_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

EDITED = """
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from plugins import function

@function()
async def edited(gate: str | None = None, note: str | None = None) -> AsyncIterator[str]:
    try:
        yield "{word}"
        while gate and not Path(gate).exists():
            await asyncio.sleep(0.01)
        yield "{word} again"
    finally:
        if note:
            Path(note).touch()
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """A folder with one function."""
    place = tmp_path / "functions"
    place.mkdir()
    (place / "edited.py").write_text(EDITED.format(word="old"))
    return place


@pytest.fixture
def server() -> Iterator[str]:
    """A Redis of this test's own: no other worker takes its tasks."""
    with EmbeddedRedis() as redis:
        yield redis.url


@pytest.fixture
def api(server: str) -> Iterator[Api]:
    """An API of this test's own."""
    with api_process(server) as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """Its client."""
    async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
def worker(server: str, functions: Path) -> Iterator[Process]:
    """The worker, as the Procfile starts it."""
    command = [sys.executable, "-m", "scripts.reload", sys.executable, "-m", "services.worker"]
    env = {"REDIS_URL": server, "FUNCTIONS_PATH": str(functions), "TAILRACE_DRAIN_S": "86400"}
    process = Process([*command, "--workers", "1"], env, fresh=True)
    try:
        process.wait_for("Listening started")
        yield process
        process.stop()
    finally:
        process.kill()


async def until_listed(client: httpx.AsyncClient, name: str, but: str | None = None) -> str:
    """Wait until this function is announced, in another version than this one; its version."""

    async def listed() -> str | None:
        answer = await client.get(f"/functions/{name}")
        version = str(answer.json()["version"]) if answer.status_code == 200 else None
        return None if version == but else version

    return await until(listed, f"another version of {name} than {but}")


async def test_an_edit_cuts_no_stream(
    worker: Process, client: httpx.AsyncClient, functions: Path, tmp_path: Path
) -> None:
    """An open stream goes on with the code it began with. A new task runs the new code. A new file is loaded, too. A
    broken file does not affect the others.
    """
    old = await until_listed(client, "edited")
    gate = tmp_path / "gate"
    task_id = await start(client, "edited", gate=str(gate))
    assert data(await events(client, task_id, most=1)) == ["old"]

    (functions / "edited.py").write_text(EDITED.format(word="new"))
    (functions / "another.py").write_text(EDITED.format(word="another").replace("def edited", "def another"))
    (functions / "broken.py").write_text("import no_such_package\n")
    await until_listed(client, "edited", but=old)
    await until_listed(client, "another")

    async def broken() -> Any:
        return (await client.get("/functions")).json()["broken"]

    await until(broken, "a broken file is listed")
    assert (await follow(client, await start(client, "edited")))[0] == ["new", "new again"]
    assert (await client.get(f"/tasks/{task_id}")).json()["status"] == "running"

    gate.touch()
    assert await follow(client, task_id) == (["old", "old again"], "done", {"chunks": 2})


async def test_it_ends_at_once_with_all_that_was_left_running(
    worker: Process, client: httpx.AsyncClient, functions: Path, tmp_path: Path, server: str
) -> None:
    """Told to stop, it waits neither for the new worker nor for the old. Running functions clean up, and tasks end."""
    version = await until_listed(client, "edited")
    ids, notes = [], []
    for number in range(2):
        notes.append(tmp_path / f"note.{number}")
        ids.append(await start(client, "edited", gate=str(tmp_path / "never"), note=str(notes[-1])))
        await events(client, ids[-1], most=1)
        if number == 0:
            (functions / "edited.py").write_text(EDITED.format(word="new"))
            await until_listed(client, "edited", but=version)
    assert await asyncio.to_thread(worker.stop) == 0
    assert all(note.exists() for note in notes)
    for task_id in ids:
        _, end, why = await follow(client, task_id)
        assert (end, why["code"]) == ("failed", "interrupted")
    async with Redis.from_url(server) as redis:
        assert await redis.xlen(keys.QUEUE) == 0
        assert not await redis.zcard(keys.OPEN)


async def test_a_worker_that_does_not_start_is_no_reason_to_wait(server: str) -> None:
    """It ends with the worker that it watches, so that its parent sees the fault."""
    process = Process([sys.executable, "-m", "scripts.reload", sys.executable, "-c", "raise SystemExit(3)"], fresh=True)
    assert await asyncio.to_thread(process.wait) == 3
