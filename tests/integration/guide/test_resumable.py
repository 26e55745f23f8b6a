"""Go on where the last attempt was.

A function with `retries` and `resumable=True` finds in `Context.yielded` what its earlier attempts have yielded. It
goes on behind that, and readers keep what they have.
"""

import json

import httpx
import pytest

from tests.support.client import data, events, kept, marks, start, status_of

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_a_function_that_continues(client: httpx.AsyncClient) -> None:
    """A resumable one gets what was yielded and goes on behind it: readers have everything once, and drop nothing."""
    task_id = await start(client, "counts_on", to=1_000, stumbles=[1, 500, 999])
    seen = await events(client, task_id)

    assert marks(seen) == [{"attempt": attempt, "keeps": True} for attempt in (2, 3, 4)]
    assert data(seen) == kept(seen) == list(range(1, 1_001))
    assert (seen[-1].event, json.loads(seen[-1].data)) == ("done", {"chunks": 1_000})
    assert (await status_of(client, task_id))["chunks"] == 1_000


async def test_what_was_told_before_a_failure(client: httpx.AsyncClient) -> None:
    """A resumable function gets its events back, in order; and whatever the name, more is written behind it."""
    task_id = await start(client, "tells_again")
    seen = await events(client, task_id)
    assert [event.event for event in seen] == ["message", "page_1.read", "attempt", "message", "done"]
    assert data(seen)[1] == [1, ["page_1.read", {"n": 1}]]


async def test_the_number_of_attempts_is_announced(client: httpx.AsyncClient) -> None:
    """A client can see how often a function may be tried, and that its context is no part of the input."""
    function = (await client.get("/functions/counts_on")).json()
    assert (function["retries"], function["resumable"]) == (5, True)
    assert set(function["input"]["properties"]) == {"to", "stumbles"}
