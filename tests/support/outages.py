"""A client's expectations while Redis is down, and after Redis has come back empty."""

import asyncio
import json
from typing import Any, Final

import httpx
from httpx_sse import ServerSentEvent

# Seconds within which a request must be answered while Redis is away.
PATIENCE_S: Final = 5

ID: Final = "0123456789abcdef0123456789abcdef"

# Every call that needs Redis.
CALLS: Final = [
    ("POST", "/tasks"),
    ("GET", "/tasks"),
    ("GET", f"/tasks/{ID}"),
    ("GET", f"/tasks/{ID}/stream"),
    ("GET", f"/tasks/{ID}/chunks"),
    ("GET", f"/tasks/{ID}/chunks?wait=45"),
    ("DELETE", f"/tasks/{ID}"),
    ("GET", "/functions"),
    ("GET", "/functions/count"),
    ("POST", "/functions/count/tasks"),
    ("PUT", "/functions/nothing/paused"),
    ("DELETE", "/functions/nothing/paused"),
    ("GET", "/schema"),
]
BODIES: Final = {"/tasks": {"function": "count", "input": {"to": 1}}, "/functions/count/tasks": {"to": 1}}


async def call(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    """One of `CALLS`, answered in time."""
    async with asyncio.timeout(PATIENCE_S):
        return await client.request(method, path, json=BODIES[path] if method == "POST" else None)


def assert_unavailable(answer: httpx.Response) -> None:
    """It says that asking again makes sense, and when."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:tailrace:problem:unavailable"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def assert_told_of_the_loss(seen: list[ServerSentEvent]) -> None:
    """By a gap, by a failure, or by both; and nothing comes after the failure."""
    told: list[Any] = [(event.event, json.loads(event.data)) for event in seen if event.event != "message"]
    assert told, "the reader got no gap"
    assert {event for event, _ in told} <= {"gap", "failed"}
    assert [why["code"] for event, why in told if event == "failed"] in ([], ["log_lost"])
