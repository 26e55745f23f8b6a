"""Follow a task.

`GET /tasks/{id}/stream` sends every chunk that the function yields, and then the end, as Server-Sent Events. A reader
may come before, while or after the function runs: the entries are the same. The entries can be had as lines, and as
pages.
"""

import asyncio
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events, follow, start

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_the_bytes_of_a_stream(client: httpx.AsyncClient) -> None:
    """Any client of Server-Sent Events can read it: exact content type, an opening at once, ids, one named end."""
    task_id = await start(client, "count", to=2)
    await follow(client, task_id)
    answer = await client.get(f"/tasks/{task_id}/stream")
    opening, _, rest = answer.text.partition("\n: open\n")

    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert 1_000 <= int(opening.removeprefix("retry: ")) <= 4_000
    assert rest == 'id: 0\ndata: 1\n\nid: 1\ndata: 2\n\nid: 2\nevent: done\ndata: {"chunks":2}\n\n'


async def test_when_a_reader_comes_makes_no_difference(client: httpx.AsyncClient) -> None:
    """One from the start, one in the middle and one after the end have the same events."""
    task_id = await start(client, "count", to=10, every=0.02)
    early = asyncio.create_task(events(client, task_id))
    await events(client, task_id, most=5)
    in_the_middle = await events(client, task_id)
    late = await events(client, task_id)

    whole = [(str(n), "message", str(n + 1)) for n in range(10)] + [("10", "done", '{"chunks":10}')]
    for seen in (await early, in_the_middle, late):
        assert [(event.id, event.event, event.data) for event in seen] == whole


async def test_entries_as_lines(client: httpx.AsyncClient, redis: Redis) -> None:
    """With `Accept: application/x-ndjson` every line is an entry as the log has it."""
    task_id = await start(client, "count", to=2)
    await follow(client, task_id)
    answer = await client.get(f"/tasks/{task_id}/stream", headers={"Accept": "application/x-ndjson"})

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [line for line in answer.content.split(b"\n") if line] == await redis.lrange(keys.log(task_id), 0, -1)


async def test_pages(client: httpx.AsyncClient) -> None:
    """A client without streaming reads the log page by page, and knows when it has it all."""
    task_id = await start(client, "count", to=5)
    await follow(client, task_id)
    pages: list[dict[str, Any]] = []
    after = -1
    while not pages or not pages[-1]["ended"]:
        pages.append((await client.get(f"/tasks/{task_id}/chunks?limit=2&after={after}")).json())
        after = pages[-1]["next"]

    assert [[entry["seq"] for entry in page["entries"]] for page in pages] == [[0, 1], [2, 3], [4, 5]]
    assert [entry["data"] for page in pages for entry in page["entries"]][:5] == [1, 2, 3, 4, 5]
    last = (await client.get(f"/tasks/{task_id}/chunks?after=5")).json()
    assert last == {"entries": [], "next": 5, "ended": True}
    beyond = (await client.get(f"/tasks/{task_id}/chunks?after=9&limit=1")).json()
    assert (beyond["gap"], beyond["next"]) == ({"after": 9, "length": 6}, 0)
