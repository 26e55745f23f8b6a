"""A client's expectations while Redis is down, and after Redis has come back empty."""

import asyncio
import json
import re
from typing import Any, Final

import httpx
from httpx_sse import ServerSentEvent

from tests.support.canaries import CANARY
from tests.support.sockets import Client

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
    ("DELETE", f"/tasks/{ID}?purge=true"),
    ("GET", "/functions"),
    ("GET", "/functions/count"),
    ("POST", "/functions/count/tasks"),
    ("PUT", "/functions/nothing/paused"),
    ("DELETE", "/functions/nothing/paused"),
    ("GET", "/schema"),
]
BODIES: Final = {
    "/tasks": {"function": "words", "input": {"text": CANARY}},
    "/functions/count/tasks": {"to": 1},
}


async def call(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    """One of `CALLS`, answered in time; a stream as lines."""
    headers = {"Accept": "application/x-ndjson"} if path.endswith("/stream") else {}
    async with asyncio.timeout(PATIENCE_S):
        return await client.request(method, path, headers=headers, json=BODIES[path] if method == "POST" else None)


def assert_unavailable(answer: httpx.Response, kind: str = "unavailable") -> None:
    """It says that asking again makes sense, and when."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:tailrace:problem:{kind}"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


async def assert_told_to_come_back(url: str, task_id: str) -> None:
    """An `EventSource` is, in time: at any status but 200 it would give up for good, and at a complete response some
    clients take the task for ended.
    """
    reader = Client(url, task_id, "Connection: close")
    async with asyncio.timeout(PATIENCE_S):
        await reader.until_end()
    reader.close()
    assert reader.received.startswith(b"HTTP/1.1 200 ")
    assert b"\r\ncontent-type: text/event-stream\r\n" in reader.received
    assert b"\r\ncache-control: no-store\r\n" in reader.received
    assert re.fullmatch(rb"retry: [1-4]\d{3}\n", reader.body)
    assert not reader.complete


def assert_told_of_the_loss(seen: list[ServerSentEvent]) -> None:
    """By a gap, by a failure, or by both; and nothing comes after the failure."""
    told: list[Any] = [(event.event, json.loads(event.data)) for event in seen if event.event != "message"]
    assert told, "the reader got no gap"
    assert {event for event, _ in told} <= {"gap", "failed"}
    assert [why["code"] for event, why in told if event == "failed"] in ([], ["log_lost"])
