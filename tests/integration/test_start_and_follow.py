"""One request that starts a task and follows it: the answer to POST is the stream, if the client asks for one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, follow
from tests.support.tasks import closed, end_noted
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

SSE = {"Accept": "text/event-stream"}


@asynccontextmanager
async def started(
    client: httpx.AsyncClient, function: str, headers: dict[str, str] | None = None, **given: Any
) -> AsyncIterator[EventSource]:
    """The stream that answers this POST."""
    body = {"function": function, "input": given}
    stream = aconnect_sse(client, "POST", "/tasks", json=body, headers=headers or {})
    async with asyncio.timeout(2 * DEADLINE_S), stream as source:
        source.response.raise_for_status()
        yield source


async def seen(source: EventSource, most: int | None = None) -> list[ServerSentEvent]:
    """The stream's events, to its end or until there are so many."""
    came: list[ServerSentEvent] = []
    if most == 0 or source.response.status_code == 204:
        return came
    async for event in source.aiter_sse():
        came.append(event)
        if len(came) == most:
            break
    return came


def task_of(response: httpx.Response) -> str:
    """The task that a stream is of, as its headers say: where to come back, what this is, where its status is."""
    status = response.links["status"]["url"]
    assert response.headers["location"] == response.headers["content-location"] == f"{status}/stream"
    return str(status).removeprefix("/tasks/")


async def known(redis: Redis) -> int:
    """How many tasks there are."""
    return int(await redis.zcard(keys.by_owner("anonymous")))


async def test_the_answer_to_post_is_the_stream(client: httpx.AsyncClient, redis: Redis) -> None:
    """All chunks and the end come without a second request; the headers say where the task is, and it is like any."""
    async with started(client, "count", to=3) as source:
        response, came = source.response, await seen(source)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    assert (data(came), came[-1].event, json.loads(came[-1].data)) == ([1, 2, 3], "done", {"chunks": 3})
    assert [event.id for event in came] == ["0", "1", "2", "3"]

    assert await follow(client, task_of(response)) == ([1, 2, 3], "done", {"chunks": 3})
    assert (await client.get(response.links["status"]["url"])).json()["status"] == "done"


async def test_as_lines(client: httpx.AsyncClient, redis: Redis) -> None:
    """With `Accept: application/x-ndjson` the entries come as lines, here and where a function has its own address."""
    headers = {"Accept": "application/jsonl, Application/X-NDJSON; charset=utf-8"}
    answer = await client.post("/functions/count/tasks", json={"to": 2}, headers=headers)
    lines = [json.loads(line) for line in answer.text.splitlines() if line]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert [line["data"] for line in lines] == [1, 2, {"chunks": 2}]
    again = await client.get(answer.headers["content-location"], headers=headers)
    assert [json.loads(line) for line in again.text.splitlines() if line] == lines


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json, text/event-stream", "text/html"])
async def test_who_takes_json_gets_json(client: httpx.AsyncClient, redis: Redis, accept: str) -> None:
    """Only a client that asks for a stream, and for no JSON, gets one: all others get JSON."""
    body = {"function": "count", "input": {"to": 1}}
    answer = await client.post("/tasks", json=body, headers={"Accept": accept, "Last-Event-ID": "0"})
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/json")
    assert answer.json()["status_url"] == answer.headers["location"]


async def test_it_opens_before_anything_runs(client: httpx.AsyncClient, redis: Redis, tmp_path: Path) -> None:
    """A task that has to wait for another has its stream at once, and its chunks when it runs."""
    given: dict[str, Any] = {"place": str(tmp_path / "notes")}
    async with (
        started(client, "one_at_once", name="first", hold=3_600, **given) as first,
        started(client, "one_at_once", name="second", hold=0, **given) as second,
    ):
        waits = (await client.get(second.response.links["status"]["url"])).json()
        assert (waits["status"], waits["chunks"]) == ("queued", 0)
        assert (await client.delete(first.response.links["status"]["url"])).status_code == 202
        assert [event.event for event in await seen(first)] == ["cancelled"]
        assert data(await seen(second)) == ["second"]


async def test_who_leaves_takes_nothing_along(client: httpx.AsyncClient, redis: Redis) -> None:
    """The task goes on without the client that started it, whose way back is where `Location` points."""
    async with started(client, "count", to=20, every=0.02) as source:
        came = await seen(source, most=3)
    task_id = task_of(source.response)
    back = {"Last-Event-ID": came[-1].id}
    async with aconnect_sse(client, "GET", source.response.headers["location"], headers=back) as rest:
        assert data(came) + data(await seen(rest)) == list(range(1, 21))
    assert (await follow(client, task_id))[1] == "done"


async def test_the_same_request_goes_on(client: httpx.AsyncClient, apis: list[Any], redis: Redis) -> None:
    """With a key, a client comes back by repeating its POST with the last id it has, as often as it likes, anywhere."""
    key, tasks = {"Idempotency-Key": uuid4().hex}, set()
    got: list[int] = []
    last: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=apis[1].url, timeout=30) as other:
        for turn, most in enumerate((0, 2, 3, 5, None)):
            headers = SSE | key | last
            async with started(other if turn % 2 else client, "count", headers, to=12, every=0.05) as source:
                came = await seen(source, most)
            tasks.add(task_of(source.response))
            got += data(came)
            last = {"Last-Event-ID": came[-1].id} if came else {}
    assert (got, len(tasks)) == (list(range(1, 13)), 1)

    async with started(client, "count", SSE | key | last, to=12, every=0.05) as source:
        assert (source.response.status_code, task_of(source.response)) == (204, *tasks)
    async with started(client, "count", SSE | key, to=12, every=0.05) as source:
        assert data(await seen(source)) == list(range(1, 13))


async def test_going_on_without_a_key_starts_nothing(client: httpx.AsyncClient, redis: Redis) -> None:
    """A client that comes back by POST without a key is told so, instead of paying for another run."""
    before = await known(redis)
    body = {"function": "count", "input": {"to": 1}}
    answer = await client.post("/tasks", json=body, headers=SSE | {"Last-Event-ID": "3"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:tailrace:problem:idempotency-key-missing")
    key = {"Idempotency-Key": uuid4().hex}
    answer = await client.post("/tasks", json=body, headers=SSE | key | {"Last-Event-ID": "three"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:tailrace:problem:invalid-cursor")
    assert await known(redis) == before


@pytest.mark.parametrize("lost", ["key", "task"])
async def test_going_on_after_a_day_starts_nothing(client: httpx.AsyncClient, redis: Redis, lost: str) -> None:
    """A client that resumes a task that is no longer stored gets an error; without a cursor it starts another."""
    key = {"Idempotency-Key": uuid4().hex}
    async with started(client, "count", SSE | key, to=2) as source:
        await seen(source)
    gone = keys.idempotency("anonymous", key["Idempotency-Key"]), keys.metadata(task_of(source.response))
    await redis.delete(gone[lost == "task"])
    before = await known(redis)
    body = {"function": "count", "input": {"to": 2}}
    answer = await client.post("/tasks", json=body, headers=SSE | key | {"Last-Event-ID": "0"})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailrace:problem:unknown-task")
    assert await known(redis) == before
    if lost == "key":
        assert not await redis.exists(gone[0])  # nor is the key taken
        answer = await client.post("/tasks", json=body, headers=SSE | key | {"Last-Event-ID": "-1"})
        assert task_of(answer) != task_of(source.response)


async def test_a_repeat_wakes_no_task_that_is_over(client: httpx.AsyncClient, redis: Redis) -> None:
    """Recovery does not look at it again: when it ended stays what it was."""
    key = {"Idempotency-Key": uuid4().hex}
    async with started(client, "count", SSE | key, to=1) as source:
        await seen(source)
    task_id = task_of(source.response)
    await closed(redis, task_id)
    async with started(client, "count", SSE | key, to=1) as source:
        assert data(await seen(source)) == [1]
    assert await redis.zscore(keys.OPEN, task_id) is None


async def test_a_key_whose_log_is_gone(client: httpx.AsyncClient, redis: Redis) -> None:
    """The stream of a task that ended long ago answers 410. A client that accepts JSON gets the task."""
    key = {"Idempotency-Key": uuid4().hex}
    async with started(client, "count", SSE | key, to=1) as source:
        await seen(source)
    task_id = task_of(source.response)
    await end_noted(redis, task_id)
    await redis.delete(keys.log(task_id))
    body = {"function": "count", "input": {"to": 1}}
    answer = await client.post("/tasks", json=body, headers=SSE | key)
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:tailrace:problem:expired")
    answer = await client.post("/tasks", json=body, headers=key)
    assert (answer.status_code, answer.json()["status"]) == (202, "done")


async def test_what_is_wrong_is_said_before_the_stream(client: httpx.AsyncClient, redis: Redis) -> None:
    """With the status and the problem details of other requests: the API opens a stream only for a task that exists."""
    for body, status, kind in (
        ({"function": "no_such"}, 404, "unknown-function"),
        ({"function": "count", "input": {"to": "ten"}}, 400, "invalid-input"),
    ):
        answer = await client.post("/tasks", json=body, headers=SSE)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:tailrace:problem:{kind}")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_document_says_so(client: httpx.AsyncClient) -> None:
    """OpenAPI has both answers, for POST /tasks and for every function."""
    paths = (await client.get("/schema")).json()["paths"]
    for path in ("/tasks", "/functions/count/tasks"):
        answers = paths[path]["post"]["responses"]
        assert list(answers["200"]["content"]) == ["text/event-stream", "application/x-ndjson"]
        assert list(answers["202"]["content"]) == ["application/json"]
        assert "content" not in answers["204"]
