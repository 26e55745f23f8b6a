"""Cancel a task.

`DELETE /tasks/{id}` ends the stream at once. The worker then stops the function: `CancelledError` is raised where it
awaits, and its clean-up runs. A function that prefers to end in its own way asks its `Context`.
"""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events, follow, start
from tests.support.files import appeared

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_a_running_task_is_cancelled(client: httpx.AsyncClient, redis: Redis, tmp_path: Path) -> None:
    """DELETE ends the stream at once, the function's clean-up runs, and asking again is harmless."""
    note = tmp_path / "note"
    task_id = await start(client, "silent", note=str(note))
    await events(client, task_id, most=1)
    following = asyncio.create_task(follow(client, task_id))
    answer = await client.delete(f"/tasks/{task_id}")

    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert await following == ([1], "cancelled", {"by": "client"})
    await appeared(note)
    again = await client.delete(f"/tasks/{task_id}")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert await redis.zscore(keys.OPEN, task_id) is None


async def test_a_function_that_ends_in_its_own_way(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A cancel wakes it, it is told so, and goes on to its end; the stream has ended already."""
    task_id = await start(client, "sleeps_until_told", folder=str(tmp_path))
    await events(client, task_id, most=1)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    assert (await events(client, task_id))[-1].event == "cancelled"
    await appeared(tmp_path / "woken again True")
    assert (tmp_path / "woken True").exists()


async def test_a_thread_that_looks_up(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A synchronous function that yields nothing for long can ask whether it was cancelled."""
    task_id = await start(client, "asks_in_a_thread", folder=str(tmp_path))
    await events(client, task_id, most=1)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    await appeared(tmp_path / "looked up")
