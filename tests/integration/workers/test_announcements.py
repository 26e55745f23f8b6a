"""Announcements of functions, while deploys bring other versions and other functions."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from plugins import entries, keys
from plugins.declaration import Broken
from services.api.catalog import Catalog
from services.worker.registry import announce, registry
from tests.support.client import follow, start
from tests.support.files import open_gate
from tests.support.logs import written
from tests.support.processes import worker_process
from tests.support.settings import QUICK
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

VERSION = """
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from plugins import function

@function()
async def versioned(gate: str | None = None) -> AsyncIterator[int]:
    '''Yields:
        The version.
    '''
    yield {number}
    while gate and not Path(gate).exists():
        await asyncio.sleep(0.01)
"""

DAY_MS = 86_400_000


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """A folder with the first version of a function."""
    place = tmp_path / "functions"
    place.mkdir()
    (place / "versioned.py").write_text(VERSION.format(number=1))
    return place


async def test_a_task_that_outlives_its_version(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, functions: Path
) -> None:
    """It was submitted for a version that no worker has any more: it runs on the one there is, and says so."""
    settings = {**QUICK, "FUNCTIONS_PATH": str(functions)}
    with worker_process(own_url, **settings):
        same = await start(own_client, "versioned")
        assert (await follow(own_client, same))[0] == [1]
    (functions / "versioned.py").write_text(VERSION.format(number=2))
    task_id = await start(own_client, "versioned")
    queued = (await own_client.get(f"/tasks/{task_id}")).json()
    assert queued["ran_version"] is None
    with worker_process(own_url, **settings):
        assert (await follow(own_client, task_id))[0] == [2]
        current = (await own_client.get("/functions/versioned")).json()["version"]
        listed = (await own_client.get("/tasks", params={"limit": 2})).json()["tasks"]
        one = (await own_client.get(f"/tasks/{task_id}")).json()

    assert one["version"] == queued["version"] == listed[1]["version"] == listed[1]["ran_version"] != current
    assert one["ran_version"] == listed[0]["ran_version"] == current


async def test_a_worker_that_is_leaving_says_no_more(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, functions: Path, gate: Path
) -> None:
    """During its grace, however long, the version of the one that came after it is the one that is listed."""
    settings = {**QUICK, "FUNCTIONS_PATH": str(functions)}
    with worker_process(own_url, **settings, TAILRACE_DRAIN_S="3600") as leaving:
        task_id = await start(own_client, "versioned", gate=str(gate))
        await written(own, task_id, 1)
        leaving.signal(signal.SIGTERM)
        await asyncio.to_thread(leaving.wait_for, "draining")
        old = await announced(own, "versioned")
        (functions / "versioned.py").write_text(VERSION.format(number=2))
        with worker_process(own_url, **settings):
            seen: dict[int, str] = {}

            async def eight() -> bool:
                declared = await announced(own, "versioned")
                seen[declared["announced_at"]] = declared["version"]
                return len(seen) >= 8

            await until(eight, "eight announcements")
            assert (await own_client.get(f"/tasks/{task_id}")).json()["status"] == "running"
            open_gate(gate)
            assert await asyncio.to_thread(leaving.wait) == 0
    assert len(set(seen.values()) - {old["version"]}) == 1
    assert list(seen.values())[1:].count(old["version"]) == 0
    assert (await follow(own_client, task_id))[0] == [1]


async def announced(own: Redis, name: str) -> dict[str, Any]:
    """The announcement of a function."""
    declaration = await own.hget(keys.FUNCTIONS, name)
    assert declaration is not None
    return dict(msgspec.json.decode(declaration))


async def test_what_no_worker_has_had_for_a_week(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """The API does not list or start a renamed function for ever. It forgets a broken file that is gone, too.

    Younger announcements stay: their workers may be stopped for a weekend.
    """
    with worker_process(own_url, **QUICK):
        pass
    declared = await announced(own, "count")
    now = entries.now_ms()
    for name, days in (("renamed", 8), ("away", 6)):
        declaration = declared | {"name": name, "announced_at": now - days * DAY_MS}
        await own.hset(keys.FUNCTIONS, name, msgspec.json.encode(declaration))
    await own.hset(keys.BROKEN, "gone.py", msgspec.json.encode(Broken("gone.py", "no", now - DAY_MS)))

    catalogue = (await own_client.get("/functions")).json()
    assert "renamed" not in {each["name"] for each in catalogue["functions"]}
    assert (await own_client.get("/functions/away")).status_code == 200
    unknown = await own_client.get("/functions/renamed")
    assert unknown.status_code == 404
    assert "away" in unknown.json()["known"]
    assert "renamed" not in unknown.json()["known"]
    assert (await own_client.post("/tasks", json={"function": "renamed"})).status_code == 404
    assert "/functions/renamed/tasks" not in (await own_client.get("/schema")).json()["paths"]

    await own.hset(keys.FUNCTIONS, "nothing of ours", "[1]")
    with worker_process(own_url, **QUICK):
        await until(lambda: forgotten(own, keys.FUNCTIONS, "renamed"))
        await until(lambda: forgotten(own, keys.FUNCTIONS, "nothing of ours"))
        await until(lambda: forgotten(own, keys.BROKEN, "gone.py"))
        assert not await forgotten(own, keys.FUNCTIONS, "away")
    await own.hdel(keys.FUNCTIONS, "away")


NOT_OURS: Final = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no text": b'{"announced_at":1,"name":"\xff"}',
    "deep": b'{"name":' + b"[" * 100_000,
    "its time is none": b'{"announced_at":"now","at":"now"}',
}


@pytest.mark.parametrize("written", NOT_OURS.values(), ids=NOT_OURS)
async def test_an_announcement_that_is_none(own_url: str, own: Redis, written: bytes) -> None:
    """A worker that starts removes it: what another program has written keeps no worker from starting."""
    for key in (keys.FUNCTIONS, keys.BROKEN):
        await own.hset(key, "nothing of ours", written)
    with worker_process(own_url, **QUICK) as worker:
        worker.wait_for("functions loaded")
        for key in (keys.FUNCTIONS, keys.BROKEN):
            assert await forgotten(own, key, "nothing of ours")


async def forgotten(own: Redis, key: str, field: str) -> bool:
    """Whether nothing is said any more."""
    return not await own.hexists(key, field)


@pytest.mark.parametrize("hours", [-2, 2], ids=["slow", "fast"])
async def test_the_clock_of_a_worker(own: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """A file that a worker cannot load is shown while it says so, and a minute longer, whatever its clock says."""
    await own.delete(keys.BROKEN)  # a worker of another test may have announced some within the last minute
    (tmp_path / "wrong.py").write_text("import nothing_of_this_name")
    loaded = registry.load([tmp_path], 30)
    wrong = time.time_ns() + hours * 3_600_000_000_000
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: wrong)
        await announce.announce(own, loaded)
    shown = await Catalog(own).broken()
    assert [Path(each.source).name for each in shown] == ["wrong.py"]

    later = [msgspec.structs.replace(each, at=each.at - keys.BROKEN_TTL_S * 1_000) for each in shown]
    await own.hset(keys.BROKEN, mapping={each.source: msgspec.json.encode(each) for each in later})
    assert await Catalog(own).broken() == []
