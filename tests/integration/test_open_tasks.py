"""Quotas of open tasks: a task beyond one is refused and leaves nothing; what has ended, however, makes room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import client_of, follow, start
from tests.support.processes import api_process, worker_process
from tests.support.tasks import closed
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# It stays queued where no worker runs; `count` is announced by one that does not read the queue any more.
COUNT: Final[dict[str, Any]] = {"function": "count", "input": {"to": 1}}


@pytest.fixture
async def own(own_database: str) -> AsyncIterator[Redis]:
    """A client of a database in which all functions are announced, and no worker runs."""
    with worker_process(own_database):
        pass
    async with Redis.from_url(own_database) as own:
        yield own


@asynccontextmanager
async def small(url: str, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API with small quotas."""
    with api_process(url, **settings) as api:
        async with client_of(api) as client:
            yield client


def told(answer: httpx.Response, status: int, kind: str, limit: int, setting: str) -> None:
    """The answer is this problem, and says when to ask again."""
    body = answer.json()
    assert (answer.status_code, body["type"]) == (status, f"urn:tailrace:problem:{kind}"), answer.text
    assert (body["limit"], body["setting"]) == (limit, setting)
    assert int(answer.headers["retry-after"]) >= 1


async def test_an_owner_has_its_open_tasks(own: Redis, own_database: str) -> None:
    """The next one is refused and leaves nothing, and the same request with a known key is not refused. When one of the
    tasks is over there is room for one.
    """
    async with small(own_database, TAILRACE_OWNER_TASKS="3") as client:
        key = {"Idempotency-Key": uuid4().hex}
        known = await start(client, "count", key, to=1)
        others = [await start(client, "count", to=1) for _ in range(2)]
        before = await own.dbsize(), await own.xlen(keys.QUEUE), await own.zcard(keys.OPEN)
        told(await client.post("/tasks", json=COUNT), 429, "too-many-tasks", 3, "TAILRACE_OWNER_TASKS")
        assert (await own.dbsize(), await own.xlen(keys.QUEUE), await own.zcard(keys.OPEN)) == before
        assert (await client.post("/tasks", json=COUNT, headers=key)).json()["task_id"] == known

        assert (await client.delete(f"/tasks/{others[0]}")).status_code == 202
        assert (await client.post("/tasks", json=COUNT)).status_code == 202
        told(await client.post("/tasks", json=COUNT), 429, "too-many-tasks", 3, "TAILRACE_OWNER_TASKS")
        assert await own.zcard(keys.OPEN) == 3


async def test_a_refused_request_does_not_take_its_key(own: Redis, own_database: str) -> None:
    """A client that is refused over and over, each time with another key, leaves nothing in Redis; and it may use a key
    for another request, because nothing was started with it.
    """
    async with small(own_database, TAILRACE_OWNER_TASKS="1") as client:
        only = await start(client, "count", to=1)
        used = [{"Idempotency-Key": uuid4().hex} for _ in range(5)]
        for key in used:
            told(await client.post("/tasks", json=COUNT, headers=key), 429, "too-many-tasks", 1, "TAILRACE_OWNER_TASKS")
        assert [name async for name in own.scan_iter(match="idempotency:*")] == []

        assert (await client.delete(f"/tasks/{only}?purge=true")).status_code == 204
        other = COUNT | {"input": {"to": 2}}
        answers = await asyncio.gather(*(client.post("/tasks", json=other, headers=used[0]) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["task_id"] for answer in answers}) == 1
        assert (await client.post("/tasks", json=COUNT, headers=used[0])).status_code == 422


async def test_many_requests_at_once_take_no_more_than_there_is(own: Redis, own_database: str) -> None:
    """The step that creates a task counts: of forty that come together ten are accepted, at whichever API."""
    settings = {"TAILRACE_OWNER_TASKS": "10"}
    async with small(own_database, **settings) as one, small(own_database, **settings) as other:
        answers = await asyncio.gather(*(each.post("/tasks", json=COUNT) for each in [one, other] * 20))
    assert sorted(answer.status_code for answer in answers) == [202] * 10 + [429] * 30
    assert await own.zcard(keys.OPEN) == 10


async def test_the_queue_has_a_depth(own: Redis, own_database: str) -> None:
    """Open tasks of all owners are bounded: 503, because no client has done wrong."""
    async with small(own_database, TAILRACE_TASKS="2") as client:
        for _ in range(2):
            await start(client, "count", to=1)
        told(await client.post("/tasks", json=COUNT), 503, "queue-full", 2, "TAILRACE_TASKS")
        assert await own.zcard(keys.OPEN) == 2


async def test_a_limit_has_its_waiting_tasks(own: Redis, own_database: str) -> None:
    """One value of the `concurrency_key` is refused that has as many as may wait; another one is not."""
    async with small(own_database, TAILRACE_WAITING_TASKS="2") as client:

        def body(key: str) -> dict[str, Any]:
            return {"function": "one_for_each", "input": {"place": "", "name": "", "hold": 0, "who": key}}

        for _ in range(3):  # one is admitted, two wait
            assert (await client.post("/tasks", json=body("a"))).status_code == 202
        told(await client.post("/tasks", json=body("a")), 429, "too-many-waiting", 2, "TAILRACE_WAITING_TASKS")
        assert (await client.post("/tasks", json=body("b"))).status_code == 202
        assert await own.zcard(keys.by_owner("anonymous")) == 4


async def test_many_requests_at_once_wait_at_no_limit_beyond_its_quota(own: Redis, own_database: str) -> None:
    """A client that sends all its requests together has no more tasks waiting than one that sends them one by one."""
    settings, body = {"TAILRACE_WAITING_TASKS": "4"}, {"place": "", "name": "", "hold": 0, "who": "a"}
    async with small(own_database, **settings) as one, small(own_database, **settings) as other:
        answers = await asyncio.gather(
            *(each.post("/functions/one_for_each/tasks", json=body) for each in [one, other] * 25)
        )
    accepted = [answer.status_code for answer in answers].count(202)
    assert 4 <= accepted <= 5  # one may be admitted before the others come
    (limit,) = [name async for name in own.scan_iter(match="gate:*")]
    assert await own.zcount(limit, "(0", "(100000000000000") == accepted - 1
    assert await own.zcard(keys.OPEN) == accepted + 1  # and the limit


async def test_a_set_that_has_drifted_mends_itself(own: Redis, own_database: str) -> None:
    """Tasks that Redis has lost count no more, though nothing has told their owner's set."""
    async with small(own_database, TAILRACE_OWNER_TASKS="3") as client:
        tasks = [await start(client, "count", to=1) for _ in range(3)]
        await own.zrem(keys.OPEN, *tasks)

        async def accepted() -> bool:
            return (await client.post("/tasks", json=COUNT)).status_code == 202

        await until(accepted, "there is room")
        assert await own.zcard(keys.open_by_owner("anonymous")) == 1


async def test_tasks_that_end_make_room(own: Redis, own_database: str) -> None:
    """A client whose tasks run one after the other is never refused for those that are over."""
    with worker_process(own_database):
        async with small(own_database, TAILRACE_OWNER_TASKS="1") as client:
            for _ in range(20):
                task_id = await start(client, "count", to=1)
                await follow(client, task_id)
                await closed(own, task_id)


async def test_a_large_quota_is_not_looked_at_for_each_request(own: Redis, own_database: str) -> None:
    """Redis compares many tasks of an owner with the index once a second at most, however often it is refused; what has
    ended makes room then.
    """
    async with small(own_database, TAILRACE_OWNER_TASKS="101") as client:
        first, *_ = [await start(client, "count", to=1) for _ in range(101)]
        await own.set(keys.open_checked("anonymous"), 1)  # it was looked at, and this does not pass
        await client.delete(f"/tasks/{first}")
        told(await client.post("/tasks", json=COUNT), 429, "too-many-tasks", 101, "TAILRACE_OWNER_TASKS")
        assert await own.zcard(keys.open_by_owner("anonymous")) == 101
        await own.delete(keys.open_checked("anonymous"))
        assert (await client.post("/tasks", json=COUNT)).status_code == 202
        assert await own.zcard(keys.open_by_owner("anonymous")) == 101
