"""What the tests do as clients: start, follow, come back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

from tests.support.processes import Api
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


async def events(
    client: httpx.AsyncClient, task_id: str, after: str | None = None, most: int | None = None
) -> list[ServerSentEvent]:
    """What the stream says after this cursor, to its end or until there are so many."""
    headers = {} if after is None else {"Last-Event-ID": after}
    seen: list[ServerSentEvent] = []
    stream = aconnect_sse(client, "GET", f"/tasks/{task_id}/stream", headers=headers, timeout=DEADLINE_S)
    async with asyncio.timeout(2 * DEADLINE_S), stream as source:
        source.response.raise_for_status()
        if source.response.status_code == 204:
            return seen
        async for event in source.aiter_sse():
            if event.data or event.event != "message":
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


async def until_ready(client: httpx.AsyncClient, status: int = 200) -> None:
    """Ask until /health/ready answers with this status."""

    async def so() -> bool:
        return (await client.get("/health/ready")).status_code == status

    await until(so, f"/health/ready answers {status}")
