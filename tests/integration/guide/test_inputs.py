"""Inputs that a function takes, and how the API refuses others.

The signature of a function is the schema of its input, which `GET /functions` shows. An input that does not fit is
refused at POST, with all its faults and a JSON pointer to each, and no task is started. A fault that only a
validator of the function's author can find ends the task as `invalid_input`.
"""

import time

import httpx
import pytest

from tests.support.client import events, follow, start

pytestmark = pytest.mark.anyio


async def test_functions_are_listed_with_their_schema(client: httpx.AsyncClient) -> None:
    """A client learns from the API what can be run, and with what."""
    listed = {function["name"]: function for function in (await client.get("/functions")).json()["functions"]}
    count = (await client.get("/functions/count")).json()

    assert {"count", "words", "chat"} <= set(listed)
    for each in (count, listed["count"]):
        assert each.pop("announced_at") <= time.time() * 1000  # the worker may have announced it between the requests
    assert count == listed["count"]
    assert count["description"] == "Count from 1 up to a number, one number every so many seconds."
    assert count["input"]["required"] == ["to"]


async def test_every_fault_is_pointed_at(client: httpx.AsyncClient) -> None:
    """A value of the wrong type and a parameter that there is not are named in one answer; nothing is started."""
    before = (await client.get("/tasks?limit=1")).json()
    answer = await client.post("/tasks", json={"function": "count", "input": {"to": "ten", "evry": 1}})

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["type"] == "urn:tailrace:problem:invalid-input"
    assert answer.json()["errors"] == [
        {"pointer": "/input/to", "message": '"ten" is not of type "integer"'},
        {"pointer": "/input/evry", "message": "is unknown"},
    ]
    assert (await client.get("/tasks?limit=1")).json() == before


async def test_a_function_that_there_is_not(client: httpx.AsyncClient) -> None:
    """The answer has the names that are most like it, and how many more there are."""
    answer = await client.post("/tasks", json={"function": "cuont"})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailrace:problem:unknown-function")
    listed = (await client.get("/functions")).json()["functions"]
    assert "count" in answer.json()["known"]
    assert len(answer.json()["known"]) + answer.json()["more"] == len(listed)


async def test_what_only_a_check_of_the_authors_finds(client: httpx.AsyncClient) -> None:
    """A validator's ValueError ends the task, which is not tried again, and says where and why. Whatever else it raises
    is a failure of the function, and another attempt's chance.
    """
    good = {"low": 1, "high": 2}
    assert await follow(client, await start(client, "in_range", ranges=[good], value=2)) == (
        [[True]],
        "done",
        {"chunks": 1},
    )

    seen = await events(client, await start(client, "in_range", ranges=[good, {"low": 2, "high": 1}]))
    message = "/ranges/1: Value error, low must not be above high"
    assert [(event.event, event.json()) for event in seen] == [
        ("failed", {"code": "invalid_input", "message": message})
    ]

    seen = await events(client, await start(client, "in_range", ranges=[{**good, "unit": "ft"}]))
    assert [event.event for event in seen] == ["attempt", "failed"]
    assert seen[-1].json() == {"code": "error", "message": "LookupError: how long is a foot?"}
