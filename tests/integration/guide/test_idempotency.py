"""Start a task once, however often the request is sent.

A client that did not hear the answer to its POST cannot know whether the task was started. With an `Idempotency-Key`
it simply sends the request again: the same key and the same request are the same task, for a day.
"""

import asyncio
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import follow, status_of
from tests.support.tasks import end_noted

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_the_same_request_with_the_same_key_is_the_same_task(client: httpx.AsyncClient, redis: Redis) -> None:
    """A client that did not hear the answer asks again, and nothing runs twice, even when it asks all at once."""
    body = {"function": "count", "input": {"to": 2, "every": 0}}
    swapped = {"input": {"every": 0, "to": 2}, "function": "count"}
    header = {"Idempotency-Key": f"order 7, {uuid4()}"}
    answers = await asyncio.gather(*(client.post("/tasks", json=each, headers=header) for each in [body, swapped] * 5))

    assert {answer.status_code for answer in answers} == {202}
    (task_id,) = {answer.json()["task_id"] for answer in answers}
    assert await follow(client, task_id) == ([1, 2], "done", {"chunks": 2})
    await end_noted(redis, task_id)
    assert (await status_of(client, task_id))["attempt"] == 1

    again = await client.post("/tasks", json=body, headers=header)
    assert (again.status_code, again.json()["task_id"], again.json()["status"]) == (202, task_id, "done")


async def test_a_key_of_another_request(client: httpx.AsyncClient) -> None:
    """422 for another input and for another function: the first task is not mistaken for theirs."""
    key = {"Idempotency-Key": "x" * 219 + str(uuid4())}  # up to 255 characters
    body = {"function": "count", "input": {"to": 1}}
    first = await client.post("/tasks", json=body, headers=key)
    assert first.status_code == 202

    for other in ({"function": "count", "input": {"to": 2}}, {"function": "nothing"}):
        answer = await client.post("/tasks", json=other, headers=key)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:tailrace:problem:idempotency-key-reused")
        assert answer.headers["content-type"] == "application/problem+json"
        assert "new key" in answer.json()["detail"]
    assert (await client.post("/tasks", json=body, headers=key)).json()["task_id"] == first.json()["task_id"]
