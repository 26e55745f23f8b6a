"""The tests as clients: they start tasks, follow them, and come back."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse

from plugins.entries import ENDS
from tests.support.processes import Api, Process
from tests.support.waiting import DEADLINE_S, until


@asynccontextmanager
async def client_of(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of this API."""
    async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
        yield client


async def start(client: httpx.AsyncClient, function: str, headers: dict[str, str] | None = None, **given: Any) -> str:
    """Start a function with this input; the task's id."""
    answer = await client.post("/tasks", json={"function": function, "input": given}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def whole(source: EventSource) -> AsyncIterator[ServerSentEvent]:
    """All events of a stream. Its response is complete if the last one is the task's end, and only then.

    Raises:
        httpx.RemoteProtocolError: the response broke off.
    """
    ended = False
    try:
        async for event in source.aiter_sse():
            ended = event.event in ENDS
            yield event
    except httpx.RemoteProtocolError:
        assert not ended
        raise
    assert ended


async def events(
    client: httpx.AsyncClient, task_id: str, after: str | None = None, most: int | None = None
) -> list[ServerSentEvent]:
    """The stream's events after this cursor, to its end or until there are so many."""
    headers = {} if after is None else {"Last-Event-ID": after}
    seen: list[ServerSentEvent] = []
    stream = aconnect_sse(client, "GET", f"/tasks/{task_id}/stream", headers=headers, timeout=DEADLINE_S)
    async with asyncio.timeout(2 * DEADLINE_S), stream as source:
        source.response.raise_for_status()
        if source.response.status_code == 204:
            return seen
        async for event in whole(source):
            seen.append(event)
            if len(seen) == most:
                break
    return seen


def data(seen: list[ServerSentEvent]) -> list[Any]:
    """The chunks among these events."""
    return [json.loads(event.data) for event in seen if event.event == "message"]


async def follow(client: httpx.AsyncClient, task_id: str) -> tuple[list[Any], str, Any]:
    """All chunks of a task, its end, and the end's data."""
    seen = await events(client, task_id)
    return data(seen), seen[-1].event, json.loads(seen[-1].data)


def marks(seen: list[ServerSentEvent]) -> list[Any]:
    """The data of the `attempt` events."""
    return [json.loads(event.data) for event in seen if event.event == "attempt"]


def kept(seen: list[ServerSentEvent]) -> list[Any]:
    """The chunks that a reader keeps if it drops those of attempts that are retried from the start."""
    chunks: list[Any] = []
    for event in seen:
        if event.event == "attempt" and not json.loads(event.data)["keeps"]:
            chunks = []
        elif event.event == "message":
            chunks.append(json.loads(event.data))
    return chunks


async def status_of(client: httpx.AsyncClient, task_id: str) -> Any:
    """The API's answer for a task."""
    return (await client.get(f"/tasks/{task_id}")).json()


async def pause(client: httpx.AsyncClient, function: str, *, heard_by: Sequence[Process]) -> None:
    """Pause this function, and wait until these workers know: the API answers before they have heard of it."""
    answer = await client.put(f"/functions/{function}/paused")
    assert (answer.status_code, answer.json()["name"], answer.json()["paused"]) == (200, function, True)
    await until(lambda: all(knows_paused(worker, function) for worker in heard_by), "the workers know of the pause")


async def resume(client: httpx.AsyncClient, function: str) -> None:
    """Resume this function."""
    answer = await client.delete(f"/functions/{function}/paused")
    assert (answer.status_code, answer.json()["name"], answer.json()["paused"]) == (200, function, False)


def knows_paused(worker: Process, function: str) -> bool:
    """Whether the last set of paused functions that this worker has logged has the function."""
    *_, last = re.findall(r"paused functions changed +paused=(.*)", worker.output) or [""]
    return repr(function) in last


async def until_ready(client: httpx.AsyncClient, status: int = 200) -> None:
    """Ask until /health/ready answers with this status."""

    async def so() -> bool:
        return (await client.get("/health/ready")).status_code == status

    await until(so, f"/health/ready answers {status}")
