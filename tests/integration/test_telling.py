"""What a function can say beyond plain values, and what it can be told."""

import json
from pathlib import Path

import httpx
import pytest

from tests.support.client import data, events, follow, start
from tests.support.files import appeared

pytestmark = pytest.mark.anyio


async def test_events_are_chunks_with_a_name(client: httpx.AsyncClient) -> None:
    """Readers get them by name, with an id to come back after; the log holds and counts them like any chunk."""
    task_id = await start(client, "tells", name="page.read")
    seen = await events(client, task_id)
    assert [(event.event, json.loads(event.data)) for event in seen] == [
        ("message", 1),
        ("page.read", {"page": 1}),
        ("progress", {"done": 1, "total": 3, "note": "one third"}),
        ("progress", {"done": 2}),
        ("done", {"chunks": 4}),
    ]
    assert [event.id for event in seen] == ["0", "1", "2", "3", "4"]
    again = await events(client, task_id, after="2")
    assert [(event.id, event.event) for event in again] == [("3", "progress"), ("4", "done")]
    page = (await client.get(f"/tasks/{task_id}/chunks?after=0&limit=1")).json()
    assert [(entry["event"], entry["seq"], entry["data"]) for entry in page["entries"]] == [
        ("page.read", 1, {"page": 1})
    ]


@pytest.mark.parametrize("name", ["done", "message", "error", "two words", "über", "1st", ""])
async def test_a_name_that_readers_would_misunderstand(client: httpx.AsyncClient, name: str) -> None:
    """The task fails, and says which name it was."""
    chunks, end, why = await follow(client, await start(client, "tells", name=name))
    assert (chunks, end, why["code"]) == ([1], "failed", "error")
    assert repr(name) in why["message"]


async def test_what_was_told_before_a_failure(client: httpx.AsyncClient) -> None:
    """A resumable function gets its events back, in order; and whatever the name, more is written behind it."""
    task_id = await start(client, "tells_again")
    seen = await events(client, task_id)
    assert [event.event for event in seen] == ["message", "page_1.read", "attempt", "message", "done"]
    assert data(seen)[1] == [1, ["page_1.read", {"n": 1}]]


async def test_a_function_that_ends_in_its_own_way(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A cancel wakes it, it is told so, and goes on to its end; the stream has ended already."""
    task_id = await start(client, "sleeps_until_told", folder=str(tmp_path))
    await events(client, task_id, most=1)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    assert (await events(client, task_id))[-1].event == "cancelled"
    await appeared(tmp_path / "woken again True")
    assert (tmp_path / "woken True").exists()


async def test_its_time_is_up_all_the_same(client: httpx.AsyncClient) -> None:
    """A time-out is no request to end: it ends the task."""
    chunks, end, why = await follow(client, await start(client, "sleeps_too_long"))
    assert (chunks, end, why["code"]) == ([False], "failed", "timeout")


async def test_a_thread_that_looks_up(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """What is not async, and yields nothing for long, can ask whether it is still wanted."""
    task_id = await start(client, "asks_in_a_thread", folder=str(tmp_path))
    await events(client, task_id, most=1)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    await appeared(tmp_path / "looked up")
