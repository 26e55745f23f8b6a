"""Replies that get lost: Redis has executed the command, and its caller cannot know. Nothing is done twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys, limits, release
from services.worker.attempt import claim, lease
from tests.functions.failures import weather
from tests.support.client import data, events, start
from tests.support.messages import queue_empty
from tests.support.proxy import Proxy
from tests.support.readers import Reader
from tests.support.system import System, assert_a_task_runs, assert_whole, proxy_of, system
from tests.support.tasks import closed
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Renewals come often, and a task that was lost on the way is lost for longer than a test lasts: no other mechanism
# mends what a repeated request has to.
WORKER: Final = {"TAILRACE_RENEW_S": "0.2", "TAILRACE_LEASE_S": "600"}
API: Final = {"TAILRACE_SCAN_S": "0.2"}


# The worker's requests in a task's life, by bytes that no other request has.
REQUESTS: Final = {
    "claim": claim.SCRIPT.encode(),
    "acknowledgement": b"XACK",
    "append": b'"event":"chunk"',
    "renewal": lease.SCRIPT.encode(),
    "end": b'"event":"done"',
    "closing": b"then return redis.call('ZREM', open, task_id)",
}


@pytest.fixture(scope="module")
async def proxy(own_url: str) -> AsyncIterator[Proxy]:
    """Between all of it and Redis."""
    async with proxy_of(own_url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
async def through(proxy: Proxy) -> AsyncIterator[System]:
    """A system that has run a task: Redis has the scripts, so a request is one request."""
    async with system(proxy.url, worker=WORKER, api=API) as through:
        await assert_a_task_runs(through.client)
        await events(through.client, await start(through.client, "fails_at_first", times=1))
        yield through


@pytest.fixture
async def own(own_url: str) -> AsyncIterator[Redis]:
    """A bare client, not through the proxy; after the test nothing waits, and no task is open."""
    async with Redis.from_url(own_url) as own:
        yield own

        async def over() -> bool:
            return not await own.xlen(keys.QUEUE) and not await open_tasks(own)

        await until(over)
        assert (await own.xpending(keys.QUEUE, keys.QUEUE_GROUP))["pending"] == 0


async def open_tasks(own: Redis) -> int:
    """How many tasks have not ended, to the last of their bookkeeping. A gate leaves when recovery has looked at it."""
    members: Any = await own.zrange(keys.OPEN, 0, -1)
    return len([member for member in members if not member.startswith(keys.LIMIT_PREFIX.encode())])


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """Where functions leave their trace."""
    return tmp_path / "note"


def begun(note: Path) -> int:
    """How often a function was begun that leaves its trace there."""
    return note.read_text().count("begun") if note.exists() else 0


@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_reply_to_the_worker(through: System, proxy: Proxy, own: Redis, note: Path, request_: str) -> None:
    """Whatever reply the worker does not get, twice in a row: the function runs once, readers see every chunk once."""
    lost = proxy.lost
    proxy.drop_replies(2, after=REQUESTS[request_])
    task_id = await start(through.client, "noted", note=str(note), chunks=40, every=0.03)
    seen = await events(through.client, task_id)

    assert_whole(seen, list(range(1, 41)))
    await closed(own, task_id)
    await until(lambda: proxy.lost >= lost + 2)
    assert begun(note) == 1
    status = (await through.client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["attempt"], status["chunks"]) == ("done", 1, 40)
    assert [event.data for event in await events(through.client, task_id)] == [event.data for event in seen]


async def test_a_cancel_before_the_reply_to_the_claim(
    through: System, proxy: Proxy, own: Redis, note: Path, tmp_path: Path
) -> None:
    """A task that is cancelled before its worker knows that it has it is not begun."""
    other = await start(through.client, "noted", note=str(tmp_path / "other"), chunks=2, every=3_600)
    await events(through.client, other, most=1)
    proxy.hold_reply(after=REQUESTS["claim"])
    task_id = await start(through.client, "noted", note=str(note), chunks=2, every=3_600)

    async def running() -> bool:
        return await own.hget(keys.metadata(task_id), "status") == b"running"

    await until(running)
    assert (await through.client.delete(f"/tasks/{task_id}")).status_code == 202
    # The API would end the other one first, and the worker might learn that from a renewal.
    await own.publish(keys.CANCEL, other)
    await asyncio.to_thread(through.worker.wait_for, rf"cancelled\s+task_id={other}")  # the worker has heard of both
    proxy.thaw()

    assert (await through.client.delete(f"/tasks/{other}")).status_code == 202
    assert [event.event for event in await events(through.client, task_id)] == ["cancelled"]
    await assert_a_task_runs(through.client)
    assert begun(note) == 0


async def test_the_replies_to_many_appends(through: System, proxy: Proxy, own: Redis) -> None:
    """A stream whose writer does not hear whether it has written, again and again, is whole all the same."""
    lost = proxy.lost
    task_id = await start(through.client, "storm", seed=7, chunks=2_000)
    following = asyncio.create_task(events(through.client, task_id))

    async def repeated(before: int, length: int) -> bool:
        return following.done() or (proxy.lost > before and await own.llen(keys.log(task_id)) > length)

    while not following.done() and proxy.lost < lost + 20:
        before, length = proxy.lost, await own.llen(keys.log(task_id))
        proxy.drop_replies(1, after=REQUESTS["append"])
        await until(partial(repeated, before, length), "it was repeated, and another has followed")
    proxy.drop_replies(0, after=b"")

    assert_whole(await following, weather(7, 2_000))
    assert proxy.lost > lost + 5


@pytest.mark.parametrize("losses", [1, 2])
async def test_the_queue_took_it_and_did_not_say_so(
    through: System, proxy: Proxy, own: Redis, own_url: str, note: Path, losses: int
) -> None:
    """A submit whose reply was lost, and that its client repeated, queues its task once, and starts it once."""
    before = (await own.xinfo_stream(keys.QUEUE))["entries-added"]
    lost = proxy.lost
    body = {"function": "noted", "input": {"note": str(note), "chunks": 20, "every": 0.01}}
    headers = {"Idempotency-Key": note.parent.name}
    proxy.drop_replies(losses, after=b"XADD")

    async def answered() -> httpx.Response | None:
        answer = await through.client.post("/tasks", json=body, headers=headers)
        return None if answer.status_code == 503 else answer

    answer = await until(answered)
    assert answer.status_code == 202, answer.text
    assert_whole(await events(through.client, answer.json()["task_id"]), list(range(1, 21)))
    assert proxy.lost == lost + losses
    await queue_empty(own)
    assert (await own.xinfo_stream(keys.QUEUE))["entries-added"] == before + 1
    assert begun(note) == 1


async def test_a_cancel_that_arrived_and_did_not_say_so(
    through: System, proxy: Proxy, own: Redis, tmp_path: Path
) -> None:
    """A cancel whose reply was lost is answered as one that took place, and stands in the log once."""
    task_id = await start(through.client, "silent", note=str(tmp_path / "note"))
    reader = Reader(through.client, task_id)
    await reader.until(1)
    lost = proxy.lost
    proxy.drop_replies(1, after=b'"event":"cancelled"')
    assert (await through.client.delete(f"/tasks/{task_id}")).status_code == 202

    seen = await reader.until_end()
    assert [event.event for event in seen] == ["message", "cancelled"]
    assert proxy.lost == lost + 1


async def test_a_task_handed_back_without_hearing_so(through: System, proxy: Proxy, own: Redis, note: Path) -> None:
    """An attempt that failed, and was given back by a request whose reply got lost, is followed by one other."""
    lost = proxy.lost
    proxy.drop_replies(2, after=release.SCRIPT.encode())
    task_id = await start(through.client, "noted_twice", note=str(note))
    seen = await events(through.client, task_id)

    assert data(seen) == [1, 2]
    assert [event.event for event in seen] == ["message", "attempt", "message", "done"]
    assert json.loads(seen[-1].data) == {"chunks": 1}
    assert begun(note) == 2
    assert proxy.lost == lost + 2


@pytest.mark.parametrize(("who", "losses"), [("api", 1), ("worker", 2)])
async def test_a_gate_that_let_somebody_in_and_did_not_say_so(
    through: System, proxy: Proxy, own: Redis, tmp_path: Path, who: str, losses: int
) -> None:
    """A task that was let in by a request whose reply got lost runs all the same, once, and after the other."""
    place = tmp_path / "place"
    place.touch()

    async def begin(name: str, hold: float) -> str:
        return await start(through.client, "one_at_once", place=str(place), name=name, hold=hold)

    await events(through.client, await begin("before", 0))  # now Redis has the script
    lost = proxy.lost
    if who == "api":
        proxy.drop_replies(losses, after=limits.SCRIPT.encode()[:100])
    ids = [await begin("one", 0.5), await begin("other", 0)]
    if who == "worker":
        proxy.drop_replies(losses, after=limits.SCRIPT.encode())
    for task_id in ids:
        assert [event.event for event in await events(through.client, task_id)] == ["message", "done"]
    assert [line.split()[:2] for line in place.read_text().splitlines()] == [
        [what, name] for name in ("before", "one", "other") for what in "+-"
    ]
    assert proxy.lost == lost + losses
