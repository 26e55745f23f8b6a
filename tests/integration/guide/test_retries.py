"""Try again.

`@function(retries=2)` gives a function two further attempts, where it raised or its worker died. Each begins from
nothing and is announced in the stream as `attempt`: a reader drops the chunks that it has. The task fails when the
last attempt does.
"""

import json

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import events, kept, marks, start, status_of
from tests.support.tasks import closed

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_a_function_that_works_at_the_third_attempt(client: httpx.AsyncClient, redis: Redis) -> None:
    """Each attempt is announced in the stream, readers drop what came before, and only the last one counts."""
    task_id = await start(client, "fails_at_first", times=2)
    seen = await events(client, task_id)

    assert [event.id for event in seen] == [str(seq) for seq in range(len(seen))]
    assert marks(seen) == [{"attempt": 2, "keeps": False}, {"attempt": 3, "keeps": False}]
    assert kept(seen) == ["this", "is", "3"]
    assert (seen[-1].event, json.loads(seen[-1].data)) == ("done", {"chunks": 3})
    status = await status_of(client, task_id)
    assert (status["status"], status["attempt"], status["chunks"]) == ("done", 3, 3)
    await closed(redis, task_id)  # after its end, which the reader has seen, the worker has bookkeeping to do


async def test_a_function_that_never_works(client: httpx.AsyncClient) -> None:
    """After the last attempt the task ends as failed, with that attempt's reason."""
    seen = await events(client, await start(client, "fails_at_first", times=3))

    assert len(marks(seen)) == 2
    assert kept(seen) == ["lost 3", "lost too"]
    why = {"code": "error", "message": "ConnectionError: attempt 3"}
    assert (seen[-1].event, json.loads(seen[-1].data)) == ("failed", why)
