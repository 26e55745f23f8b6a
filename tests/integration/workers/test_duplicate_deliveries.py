"""A queue that says things twice: to two workers at once, and three times over."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from plugins import keys
from tests.support.client import follow, start
from tests.support.files import notes
from tests.support.messages import drained, message
from tests.support.processes import worker_process
from tests.support.settings import QUICK
from tests.support.tasks import ended

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_two_workers_that_get_the_same_task_at_once(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path
) -> None:
    """Each of many tasks is on the queue three times when two workers come: each runs once, in one attempt."""
    folders = [tmp_path / str(number) for number in range(30)]
    for folder in folders:
        folder.mkdir()
    ids = [await start(own_client, "ticks_again", folder=str(each), to=5, every=[0.02]) for each in folders]
    for task_id in ids:
        for _ in range(2):
            await own.xadd(keys.QUEUE, message(task_id))
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        for task_id in ids:
            assert await follow(own_client, task_id) == ([1, 2, 3, 4, 5], "done", {"chunks": 5})
        await drained(own)

    assert [len(notes(folder, "begun.*")) for folder in folders] == [1] * 30
    for task_id in ids:
        assert [attempt for _, attempt, _ in await ended(own, task_id)] == [1] * 6


async def test_two_workers_that_hold_the_same_message(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """A worker reads messages and is frozen before it claims; another takes them over; awake, the first does nothing
    with them.
    """
    task_id = await start(own_client, "ticks_again", folder=str(folder), to=40, every=[0.05])
    # As a worker leaves it that died, or sleeps, between its read and its claim.
    with suppress(ResponseError):  # a worker of an earlier test has declared it
        await own.xgroup_create(keys.QUEUE, keys.QUEUE_GROUP, id="0", mkstream=True)
    read: Any = await own.xreadgroup(keys.QUEUE_GROUP, "sleeper", {keys.QUEUE: ">"})
    (held,) = [message_id for _, messages in read for message_id, _ in messages]
    await own.xclaim(keys.QUEUE, keys.QUEUE_GROUP, "sleeper", 0, [held], idle=3_600_000)
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        await own.xadd(keys.QUEUE, message(task_id))
        assert (await follow(own_client, task_id))[0] == list(range(1, 41))
        await drained(own)
    assert len(notes(folder, "begun.*")) == 1
