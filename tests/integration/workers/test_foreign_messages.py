"""A queue with messages that no worker understands, or that have more fields than they should."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT
from taskiq import TaskiqMessage

from plugins import keys
from tests.support.client import follow, start
from tests.support.files import notes
from tests.support.messages import drained, raw
from tests.support.processes import Process, worker_process
from tests.support.settings import QUICK
from tests.support.tasks import note

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

UNKNOWN = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def one_worker(own_url: str) -> Iterator[Process]:
    """A worker that gets all of it."""
    with worker_process(own_url, **QUICK) as worker:
        yield worker


def said(**changed: Any) -> TaskiqMessage:
    """A message for a task that there is not, with something about it changed."""
    return TaskiqMessage(
        **{"task_id": "x", "task_name": keys.RUN, "labels": {}, "args": [UNKNOWN], "kwargs": {}, **changed}
    )


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"data": "not a message"}, id="text"),
        pytest.param({"data": b"\xff\x00\xfe"}, id="bytes"),
        pytest.param({"data": ""}, id="empty"),
        pytest.param({"data": "null"}, id="null"),
        pytest.param({"data": "[]"}, id="list"),
        pytest.param({"data": json.dumps({"task_name": keys.RUN})}, id="incomplete"),
        pytest.param({"other": "field"}, id="another field"),
        pytest.param(raw(said()), id="a task that there is not"),
        pytest.param(raw(said(task_name="no_such_task")), id="unknown name"),
        pytest.param(raw(said(args=["../../etc/passwd"])), id="an id of another form"),
        pytest.param({"data": json.dumps(said(args=["\ud800"]).model_dump())}, id="an id that has no bytes"),
        pytest.param(raw(said(args=[])), id="no id"),
        pytest.param(raw(said(args=[UNKNOWN, UNKNOWN])), id="two ids"),
        pytest.param(raw(said(args=[], kwargs={"task_id": UNKNOWN})), id="id by name"),
        pytest.param(raw(said(args=[["a", "list"]])), id="a list for an id"),
        pytest.param(raw(said(args=[None])), id="null for an id"),
        pytest.param(raw(said(kwargs={"context": 1})), id="a context of its own"),
    ],
)
async def test_a_message_that_makes_no_sense(
    one_worker: Process, own_client: httpx.AsyncClient, own: Redis, odd: dict[FieldT, EncodableT]
) -> None:
    """It is dropped and does not come back, the worker goes on, and the task behind it runs."""
    await own.xadd(keys.QUEUE, odd)
    task_id = await start(own_client, "count", to=3)
    assert await follow(own_client, task_id) == ([1, 2, 3], "done", {"chunks": 3})
    await drained(own)
    assert one_worker.output.count("Listening started") == 1


@pytest.mark.parametrize(
    "labels",
    [
        {"ack_type": "when_received"},
        {"ack_type": "when_executed"},
        {"ack_type": "when_saved"},
        {"ack_type": "nonsense"},
        {"timeout": 0.05},
        {"timeout": "soon"},
        {"retry_on_error": True, "max_retries": 5},
        {"delay": 3600, "priority": "high"},
        {"X-Taskiq-requeue": "9"},
    ],
    ids=str,
)
async def test_labels_of_a_message_change_nothing(
    one_worker: Process, own_client: httpx.AsyncClient, own: Redis, folder: Path, labels: dict[str, Any]
) -> None:
    """Taskiq knows labels that time tasks out, retry or acknowledge them; a task runs as its function's policy says."""
    task_id = await note(own, "ticks", folder=str(folder), to=10, every=0.05)
    await own.xadd(keys.QUEUE, raw(said(labels=labels, args=[task_id])))
    async with asyncio.timeout(20):
        assert await follow(own_client, task_id) == (list(range(1, 11)), "done", {"chunks": 10})
    await drained(own)
    assert len(notes(folder, "begun.*")) == 1
