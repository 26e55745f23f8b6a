"""The promise: every reader sees every entry once, in order, without gaps, whenever it comes, wherever it returns."""

import asyncio

import httpx
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.functions.failures import weather
from tests.support.client import data, events, start
from tests.support.processes import Api

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# A reader's life: after which entry of the storm it joins, and then how much it reads before it loses its connection
# and comes back, at which of the two APIs. The last visit is to the end.
visits = st.lists(st.tuples(st.integers(1, 120), st.integers(0, 1)), max_size=4)
readers = st.lists(st.tuples(st.integers(0, 400), visits, st.integers(0, 1)), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(seed=st.integers(0, 1 << 30), chunks=st.integers(1, 600), lives=readers)
async def test_readers_that_come_and_go_during_a_storm(
    apis: list[Api], redis: Redis, seed: int, chunks: int, lives: list[tuple[int, list[tuple[int, int]], int]]
) -> None:
    """Readers join at random instants, disconnect, and resume at another process; each has exactly what was yielded."""
    note(f"seed {seed}")
    async with httpx.AsyncClient(base_url=apis[0].url) as one, httpx.AsyncClient(base_url=apis[1].url) as other:
        clients = [one, other]
        task_id = await start(one, "storm", seed=seed, chunks=chunks)
        seen = await asyncio.gather(*(live(clients, task_id, *life) for life in lives))

    expected = weather(seed, chunks)
    for each in seen:
        assert each == expected


async def live(
    clients: list[httpx.AsyncClient], task_id: str, joins: int, visits: list[tuple[int, int]], last: int
) -> list[object]:
    """One reader's life; all the chunks it got."""
    # The instant of joining is an event: some other connection has seen that much of the storm.
    await events(clients[joins % 2], task_id, most=joins + 1)
    seen = []
    cursor = "-1"
    for entries, where in visits:
        seen += await events(clients[where], task_id, after=cursor, most=entries)
        cursor = seen[-1].id if seen else cursor
    if not seen or seen[-1].event == "message":
        seen += await events(clients[last], task_id, after=cursor)
    assert [int(event.id) for event in seen] == list(range(len(seen)))
    assert seen[-1].event == "done"
    return data(seen)
