"""Limits: a breach ends the task and names the limit; the chunks before it stay, and none is dropped."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import entries, keys
from tests.support.client import follow, start
from tests.support.logs import lines_of
from tests.support.processes import Process, worker_process
from tests.support.settings import QUICK
from tests.support.tasks import ended

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def one_worker(own_url: str) -> Iterator[Process]:
    """A worker for all of them."""
    with worker_process(own_url, **QUICK) as worker:
        yield worker


@pytest.mark.parametrize(
    ("function", "given", "fit", "message"),
    [
        ("five_chunks", {"count": 6}, [0, 1, 2, 3, 4], "more than 5 chunks"),
        ("five_chunks", {"count": 1_000_000}, [0, 1, 2, 3, 4], "more than 5 chunks"),
        ("thousand_bytes", {"size": 250, "count": 4}, ["x" * 250] * 3, "more than 1000 bytes, with chunk 3"),
        ("thousand_bytes", {"size": 5_000, "count": 1}, [], "more than 1000 bytes, with chunk 0"),
        ("too_large", {"size": 300_000}, ["small"], "more than 262144"),
        ("five_chunks_each", {"stumble": 5, "then": 6}, [0, 1, 2, 3, 4], "more than 5 chunks"),
        ("five_chunks_in_all", {"size": 1}, ["x"] * 5, "more than 5 chunks"),
        ("five_chunks_in_all", {"size": 250}, ["x" * 250] * 3, "more than 1000 bytes, with chunk 3"),
    ],
)
async def test_a_breach_ends_the_task(
    one_worker: Process,
    own_client: httpx.AsyncClient,
    own: Redis,
    function: str,
    given: dict[str, Any],
    fit: list[Any],
    message: str,
) -> None:
    """However long the output would have been, readers have what the limit allows, and the reason. Another attempt
    would only breach it again, so there is none; and attempts that continue share one limit.
    """
    task_id = await start(own_client, function, **given)
    log = await ended(own, task_id)

    begins = max((seq for seq, entry in enumerate(log) if entry[0] == "attempt" and not entry[2]["keeps"]), default=0)
    assert [value for event, _, value in log[begins:] if event == "chunk"] == fit
    event, _, why = log[-1]
    assert (event, why["code"]) == ("failed", "limit")
    assert message in why["message"]
    sizes = [len(line) for line in await lines_of(own, task_id) if entries.decode(line).event == "chunk"]
    assert function == "too_large" or sum(sizes[-len(fit) :]) <= 1_000


@pytest.mark.parametrize(
    ("size", "fit", "message"),
    [(1, 10_000, "more than 10000 chunks"), (100_000, 83, "more than 8388608 bytes, with chunk 83")],
)
async def test_what_a_function_may_leave_in_redis_by_default(
    one_worker: Process, own_client: httpx.AsyncClient, own: Redis, size: int, fit: int, message: str
) -> None:
    """A function that never ends costs Redis 8 MiB and little more: a request of some bytes fills no Redis."""
    task_id = await start(own_client, "never_ends", size=size)
    log = await ended(own, task_id)
    assert [event for event, _, _ in log] == ["chunk"] * fit + ["failed"]
    assert (log[-1][2]["code"], log[-1][2]["message"]) == ("limit", message)
    used: Any = await own.memory_usage(keys.log(task_id), samples=0)
    assert used < 9_000_000


@pytest.mark.parametrize(
    ("function", "given", "whole"),
    [
        ("five_chunks", {"count": 5}, [0, 1, 2, 3, 4]),
        ("thousand_bytes", {"size": 250, "count": 3}, ["x" * 250] * 3),
    ],
)
async def test_up_to_the_limit_is_allowed(
    one_worker: Process,
    own_client: httpx.AsyncClient,
    own: Redis,
    function: str,
    given: dict[str, Any],
    whole: list[Any],
) -> None:
    """An output that just fits is an output like any other."""
    task_id = await start(own_client, function, **given)
    assert await follow(own_client, task_id) == (whole, "done", {"chunks": len(whole)})


async def test_an_attempt_that_starts_anew_has_its_limit_anew(
    one_worker: Process, own_client: httpx.AsyncClient, own: Redis
) -> None:
    """Chunks that readers drop do not count against the attempt that replaces them."""
    task_id = await start(own_client, "five_chunks_each", stumble=5, then=5)
    log = await ended(own, task_id)
    assert log[-1] == ("done", 2, {"chunks": 5})
    assert len(log) == 12
