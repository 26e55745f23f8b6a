"""Attempts after an exception: when they begin, and what counts in the end."""

import httpx
import pytest
from redis.asyncio import Redis

from plugins import entries
from tests.support.client import start
from tests.support.logs import lines_of
from tests.support.processes import worker_process
from tests.support.settings import QUICK
from tests.support.tasks import ended
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("times", [2, 3])
async def test_attempts_keep_a_growing_distance(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, times: int
) -> None:
    """The second attempt waits, the third waits twice as long; then it is done, or failed for the last one's reason.
    While it waits, the API answers that it is queued, with the chunks so far.
    """
    statuses = []

    async def over() -> bool:
        statuses.append((await own_client.get(f"/tasks/{task_id}")).json())
        return statuses[-1]["status"] in entries.ENDS

    with worker_process(own_url, **QUICK):
        task_id = await start(own_client, "backs_off", times=times)
        await until(over)
        log = await ended(own, task_id)

    third = [("chunk", 3, 0), ("chunk", 3, 1), ("chunk", 3, 2)]
    end = ("done", 3, {"chunks": 3})
    if times == 3:
        end = ("failed", 3, {"code": "error", "message": "ConnectionError: attempt 3"})  # type: ignore[dict-item]  # another shape
    assert log == [
        ("chunk", 1, 0),
        ("attempt", 2, {"attempt": 2, "keeps": False}),
        ("chunk", 2, 0),
        ("chunk", 2, 1),
        ("attempt", 3, {"attempt": 3, "keeps": False}),
        *third,
        end,
    ]
    at = [entries.decode(line).at for line in await lines_of(own, task_id)]
    assert at[1] - at[0] >= 1_500
    assert at[4] - at[3] >= 3_000
    waiting = {(status["attempt"], status["chunks"]) for status in statuses if status["status"] == "queued"}
    assert {(1, 1), (2, 2)} <= waiting <= {(0, 0), (1, 1), (2, 2)}
    assert (statuses[-1]["attempt"], statuses[-1]["chunks"]) == (3, 3)


async def test_a_task_that_waits_for_its_next_attempt_is_cancelled(
    own_url: str, own_client: httpx.AsyncClient, own: Redis
) -> None:
    """DELETE ends it there and then, and the attempt that was to come does not."""
    with worker_process(own_url, **QUICK) as worker:
        task_id = await start(own_client, "backs_off", times=3)

        async def waits() -> bool:
            status = (await own_client.get(f"/tasks/{task_id}")).json()
            return bool(status["status"] == "queued" and status["attempt"] == 2)

        await until(waits)
        answer = await own_client.delete(f"/tasks/{task_id}")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        log = await ended(own, task_id)
        assert log[-1] == ("cancelled", 2, {"by": "client"})
        assert not [entry for entry in log if entry[1] == 3]
        worker.stop()
    assert await ended(own, task_id) == log
