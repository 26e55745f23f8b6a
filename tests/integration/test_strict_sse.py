"""Every byte of a stream: a blank line ends an event that has data, and nothing else.

Blank lines are legal anywhere. Some clients (fetch-event-source, httpx-sse, OpenAI's decoder) take each for a message
without data, which is no JSON.
"""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import client_of, follow, start
from tests.support.processes import Api, Process, api_process
from tests.support.sockets import Client
from tests.support.sse import strict
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def lively(redis_url: str, worker: Process) -> Iterator[Api]:
    """An API with many heartbeats."""
    with api_process(redis_url, TAILRACE_HEARTBEAT_S="0.05") as api:
        yield api


async def test_a_stream_with_heartbeats(lively: Api, tmp_path: Path) -> None:
    """From the opening to the end, with comments between events."""
    async with client_of(lively) as client:
        task_id = await start(client, "silent", note=str(tmp_path / "note"))
        reader = Client(lively.url, task_id, "Connection: close")
        async with asyncio.timeout(DEADLINE_S):
            await reader.until(b"\nid: 0\n")
            while len(re.findall(rb"(?m)^:(?! open)", reader.received)) < 3:
                assert await reader.read()
            assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
            await reader.until_end()
        reader.close()
    events = strict(reader.body)
    assert [event.get("event") for event in events] == [None, b"cancelled"]
    assert "retry" in events[0]


@pytest.mark.parametrize(
    ("function", "given", "told"),
    [
        ("count", {"to": 2}, [None, None, b"done"]),
        ("tells", {"name": "page"}, [None, b"page", b"progress", b"progress", b"done"]),
        ("fails_at_first", {"times": 1}, [None, None, b"attempt", None, None, None, b"done"]),
        ("raises", {"after": 1, "message": "a\n\nb"}, [None, b"failed"]),
        ("words", {"text": "a\n\r\n\nb \u2028\x85\n\n"}, [*[None] * 4, b"done"]),
        ("nothing", {}, [b"done"]),
    ],
)
async def test_events_of_every_kind(
    client: httpx.AsyncClient, function: str, given: dict[str, Any], told: list[bytes | None]
) -> None:
    """Chunks, named events, marks of attempts and ends, to a reader that was there and to one that comes later."""
    task_id = await start(client, function, **given)
    bodies = [(await client.get(f"/tasks/{task_id}/stream")).content for _ in range(2)]
    for body in bodies:
        assert [event.get("event") for event in strict(body)] == told


async def test_a_gap(client: httpx.AsyncClient) -> None:
    """Right behind the opening."""
    task_id = await start(client, "count", to=1)
    await follow(client, task_id)
    gap, *rest = strict((await client.get(f"/tasks/{task_id}/stream?after=9")).content)
    assert (gap["event"], gap["data"]) == (b"gap", b'{"after":9,"length":2}')
    assert [event["id"] for event in rest] == [b"0", b"1"]

    # A browser that has no more than the gap when its connection breaks comes back with the gap's id.
    again = await client.get(f"/tasks/{task_id}/stream", headers={"Last-Event-ID": gap["id"].decode()})
    assert [event["id"] for event in strict(again.content)] == [b"0", b"1"]


async def test_the_farewell(redis_url: str, client: httpx.AsyncClient, redis: Redis) -> None:
    """Of an API that is told to stop, behind an event."""
    task_id = await start(client, "count", to=1_000, every=0.05)
    with api_process(redis_url) as leaving:
        reader = Client(leaving.url, task_id)
        async with asyncio.timeout(DEADLINE_S):
            await reader.until(b"\nid: 1\n")
            leaving.process.signal(signal.SIGTERM)
            await reader.until_end()
        reader.close()
    assert [event["id"] for event in strict(reader.body)] == [b"%d" % seq for seq in reader.ids]
    assert reader.body.count(b"retry: ") == 2
    await client.delete(f"/tasks/{task_id}")
