"""Resume a stream.

The `id` of an event is its place in the task's log. A client that lost its connection sends the last `id` it has as
`Last-Event-ID`, which a browser does by itself. The stream then goes on behind that entry, and nothing is missed or
sent twice.
"""

import json

import httpx
import pytest

from tests.support.client import data, events, follow, start

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_a_client_comes_back_with_last_event_id(client: httpx.AsyncClient) -> None:
    """After a lost connection the stream goes on behind the last entry seen, in the middle of a run or after it."""
    task_id = await start(client, "count", to=20, every=0.02)
    seen = await events(client, task_id, most=5)
    rest = await events(client, task_id, after=seen[-1].id)

    assert data(seen) + data(rest) == list(range(1, 21))
    assert data(await events(client, task_id, after="17")) == [19, 20]


@pytest.mark.parametrize(
    "query", ["last_event_id=17", "lastEventId=17", "lastEventID=17", "Last-Event-ID=17", "after=17"]
)
async def test_the_cursor_may_stand_in_the_query(client: httpx.AsyncClient, query: str) -> None:
    """A browser cannot set a header on its first request; its own Last-Event-ID wins when it comes back."""
    task_id = await start(client, "count", to=20)
    await follow(client, task_id)
    stream = f"/tasks/{task_id}/stream?{query}"

    assert (await client.get(stream)).text.count("\nid: ") + 1 == 1 + 3
    assert (await client.get(stream, headers={"Last-Event-ID": "18"})).text.count("\nid: ") + 1 == 1 + 2


async def test_a_client_that_has_the_end_is_told_to_stop(client: httpx.AsyncClient) -> None:
    """204 makes a browser's EventSource stop asking."""
    task_id = await start(client, "count", to=2)
    await follow(client, task_id)

    answer = await client.get(f"/tasks/{task_id}/stream", headers={"Last-Event-ID": "2"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get(f"/tasks/{task_id}/stream?after=tail")).status_code == 204


async def test_a_cursor_beyond_the_log_is_announced(client: httpx.AsyncClient) -> None:
    """A client that asks for more than there is learns it, and gets the log from its start: never silence."""
    task_id = await start(client, "count", to=2)
    await follow(client, task_id)
    seen = await events(client, task_id, after="1000")

    assert (seen[0].event, json.loads(seen[0].data)) == ("gap", {"after": 1000, "length": 3})
    assert data(seen) == [1, 2]
