"""Limit how many run.

`@function(concurrency=1)` lets one attempt run at once, over all workers, and `rate="5/s"` lets five start within any
second. With a `concurrency_key` the limits hold for each value of that parameter. A task that a limit holds back is
queued, and starts when there is room.
"""

from pathlib import Path

import httpx
import pytest

from tests.support.client import follow, start, status_of

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

HOUR_S = 3_600


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where these functions note what they do."""
    return str(tmp_path / "place")


async def test_one_at_a_time(client: httpx.AsyncClient, place: str) -> None:
    """The second task of a function with `concurrency=1` waits for the end of the first, and keeps no other waiting."""
    first = await start(client, "one_at_once", place=place, name="first", hold=HOUR_S)
    second = await start(client, "one_at_once", place=place, name="second", hold=0)
    assert (await follow(client, await start(client, "count", to=1)))[1] == "done"
    assert (await status_of(client, second))["status"] == "queued"

    await client.delete(f"/tasks/{first}")
    assert await follow(client, second) == (["second"], "done", {"chunks": 1})


async def test_one_at_a_time_for_each_value(client: httpx.AsyncClient, place: str) -> None:
    """With a `concurrency_key` the task of one value does not wait for that of another."""
    first = await start(client, "one_for_each", place=place, name="first", hold=HOUR_S, who="Ada")
    second = await start(client, "one_for_each", place=place, name="second", hold=0, who="Ada")
    other = await start(client, "one_for_each", place=place, name="other", hold=0, who="Grace")
    assert await follow(client, other) == (["other"], "done", {"chunks": 1})
    assert (await status_of(client, second))["status"] == "queued"

    await client.delete(f"/tasks/{first}")
    assert await follow(client, second) == (["second"], "done", {"chunks": 1})


async def test_so_many_a_second(client: httpx.AsyncClient, place: str) -> None:
    """With `rate="5/s"` the sixth task starts a second after the first."""
    tasks = [await start(client, "five_a_second", place=place, name=str(number)) for number in range(6)]
    for task_id in tasks:
        assert (await follow(client, task_id))[1] == "done"

    first, sixth = [await status_of(client, task_id) for task_id in (tasks[0], tasks[5])]
    assert sixth["started_at"] - first["created_at"] >= 990  # milliseconds; two clocks are rounded
