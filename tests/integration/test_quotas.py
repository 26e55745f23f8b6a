"""Quotas of a process, as clients meet them: the answer names the quota, and what is over makes room at once."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import client_of, events, follow, start
from tests.support.processes import Api, api_process
from tests.support.sockets import Client
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

SSE: Final = {"Accept": "text/event-stream"}
LINES: Final = {"Accept": "application/x-ndjson"}


@asynccontextmanager
async def small(redis_url: str, **settings: str) -> AsyncIterator[tuple[Api, httpx.AsyncClient]]:
    """An API with small quotas, and a client of it."""
    with api_process(redis_url, **settings) as api:
        async with client_of(api) as client:
            yield api, client


def told(answer: httpx.Response, status: int, kind: str, limit: int, setting: str) -> None:
    """The answer is this problem: it names the quota, its value, its variable, and when to ask again."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert (body["type"], body["limit"], body["setting"]) == (f"urn:tailrace:problem:{kind}", limit, setting)
    assert str(limit) in body["detail"]
    assert setting in body["detail"]
    assert int(answer.headers["retry-after"]) >= 1


async def open_streams(api: Api, task_id: str, many: int) -> list[Client]:
    """So many streams of a task, each with its first event."""
    readers = [Client(api.url, task_id) for _ in range(many)]
    async with asyncio.timeout(DEADLINE_S):
        for reader in readers:
            await reader.until(b"\nid: 0\n")
    return readers


@pytest.fixture
async def silent(client: httpx.AsyncClient, tmp_path: Path) -> AsyncIterator[str]:
    """A task that runs, and says nothing after its first chunk."""
    task_id = await start(client, "silent", note=str(tmp_path / "note"))
    await events(client, task_id, most=1)
    yield task_id
    await client.delete(f"/tasks/{task_id}")


async def test_an_owner_has_its_streams(redis_url: str, redis: Redis, silent: str) -> None:
    """Another stream or long-poll is answered 429 until one is closed, and no task is started without its stream."""
    async with small(redis_url, TAILRACE_OWNER_STREAMS="2") as (api, client):
        first, second = await open_streams(api, silent, 2)
        tasks_before = await redis.zcard(keys.by_owner("anonymous"))
        count: dict[str, Any] = {"json": {"function": "count", "input": {"to": 1}}}
        for answer in (
            await client.get(f"/tasks/{silent}/stream"),
            await client.get(f"/tasks/{silent}/stream", headers=LINES),
            await client.get(f"/tasks/{silent}/chunks?after=0&wait=45"),
            await client.post("/tasks", headers=SSE, **count),
        ):
            told(answer, 429, "too-many-streams", 2, "TAILRACE_OWNER_STREAMS")
        assert await redis.zcard(keys.by_owner("anonymous")) == tasks_before
        assert (await client.get(f"/tasks/{silent}/chunks?wait=45")).status_code == 200  # it does not wait
        assert (await client.post("/tasks", **count)).status_code == 202
        first.close()

        async def reopened() -> bool:
            async with client.stream("GET", f"/tasks/{silent}/stream") as response:
                return response.status_code == 200

        await until(reopened, "a place is free")
        second.close()


async def test_a_process_has_its_streams(redis_url: str, silent: str) -> None:
    """Another one is answered 503, so that a proxy or a client goes elsewhere. An `EventSource` is told to return."""
    async with small(redis_url, TAILRACE_STREAMS="2", TAILRACE_OWNER_STREAMS="3") as (api, client):
        readers = await open_streams(api, silent, 2)
        answer = await client.get(f"/tasks/{silent}/stream", headers=LINES)
        told(answer, 503, "streams-full", 2, "TAILRACE_STREAMS")
        told(await client.get(f"/tasks/{silent}/chunks?after=0&wait=45"), 503, "streams-full", 2, "TAILRACE_STREAMS")
        await is_told_to_return(api, silent)
        for reader in readers:
            reader.close()


async def is_told_to_return(api: Api, task_id: str) -> None:
    """GET of a stream as SSE is answered 200 with `retry:` alone, and breaks off."""
    reader = Client(api.url, task_id)
    async with asyncio.timeout(DEADLINE_S):
        assert (await reader.until_end()).startswith(b"HTTP/1.1 200 ")
    assert is_a_return(reader)
    reader.close()


def is_a_return(reader: Client) -> bool:
    """Whether a response says when to come back, and nothing else, and breaks off."""
    return re.fullmatch(rb"retry: \d+\n", reader.body) is not None and not reader.complete


async def test_places_come_back(redis_url: str, redis: Redis, silent: str) -> None:
    """Whatever becomes of a request, its place is free for the next one: there is one place."""
    async with small(redis_url, TAILRACE_OWNER_STREAMS="1") as (api, client):
        done = await start(client, "count", to=1)
        await follow(client, done)
        expired = await start(client, "count", to=1)
        await follow(client, expired)
        await until(lambda: redis.hexists(keys.metadata(expired), "ended_at"))
        await redis.delete(keys.log(expired))
        expected = {
            f"/tasks/{done}/stream": 200,
            f"/tasks/{done}/stream?after=tail": 204,
            f"/tasks/{done}/stream?after=x": 400,
            f"/tasks/{expired}/stream": 410,
            f"/tasks/{'0' * 32}/stream": 404,
            f"/tasks/{silent}/chunks?after=0&wait=0.01": 200,
        }
        for _ in range(3):
            for path, status in expected.items():

                async def answered(path: str = path, status: int = status) -> bool:
                    return (await client.get(path)).status_code == status

                await until(answered, f"{path} is answered {status}")
            assert (await client.head(f"/tasks/{silent}/stream")).status_code == 200
            answer = await client.post("/tasks", headers=SSE, json={"function": "nope"})
            assert answer.status_code == 404
            Client(api.url, silent).reset()


async def test_an_owner_asks_too_fast(redis_url: str, client: httpx.AsyncClient) -> None:
    """Requests beyond its burst are answered 429. Probes are not, nor is an `EventSource`: it is told to return."""
    settings = {"TAILRACE_OWNER_REQUESTS": "1", "TAILRACE_OWNER_BURST": "5"}
    task_id = await start(client, "count", to=1)
    await follow(client, task_id)
    async with small(redis_url, **settings) as (api, client):

        async def at_once(path: str, headers: dict[str, str]) -> list[httpx.Response]:
            return await asyncio.gather(*(client.get(path, headers=headers) for _ in range(40)))

        for path in ("/functions", f"/tasks/{task_id}/stream"):
            refused = [answer for answer in await at_once(path, LINES) if answer.status_code != 200]
            assert refused
            for answer in refused:
                told(answer, 429, "too-many-requests", 1, "TAILRACE_OWNER_REQUESTS")
        assert {answer.status_code for answer in await at_once("/health/live", {})} == {200}
        readers = [Client(api.url, task_id, "Connection: close") for _ in range(40)]
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(reader.until_end() for reader in readers))
        for reader in readers:
            reader.close()
        assert all(reader.received.startswith(b"HTTP/1.1 200 ") for reader in readers)
        assert any(is_a_return(reader) for reader in readers)


async def test_readers_that_return_after_a_restart(redis_url: str, redis: Redis, silent: str) -> None:
    """By default none of a thousand is refused that come at the same moment: an `EventSource` gives up."""
    async with small(redis_url) as (api, _):
        for reader in await open_streams(api, silent, 1_000):
            reader.reset()
