"""Say more than values.

A function that yields `Event("page", …)` or `Progress(done=3, total=10)` yields a chunk with a name. It reaches
readers as an SSE event of that name, and is kept, counted and replayed like any other chunk.
"""

import json

import httpx
import pytest

from tests.support.client import events, start

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
