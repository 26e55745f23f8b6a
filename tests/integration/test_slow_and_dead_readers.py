"""Readers that take nothing, or are gone without a word: they cost little, and no other reader notices."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import data, events, follow, start
from tests.support.processes import Api, api_process
from tests.support.readers import unheard
from tests.support.sockets import Client, accepted, resident
from tests.support.system import proxy_of
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

# A log of 16 MiB: kernels keep some MiB for a client that reads nothing.
BULKY: Final[dict[str, Any]] = {"chunks": 4_096, "size": 4_096}


@pytest.fixture
async def strict(redis_url: str, worker: object) -> AsyncIterator[tuple[Api, httpx.AsyncClient]]:
    """An API that gives clients a second to take what is sent."""
    settings = {"TAILRACE_SEND_TIMEOUT_S": "1", "TAILRACE_HEARTBEAT_S": "1"}
    # A client that has taken everything keeps its connection for as long as uvicorn says: here, for a second.
    with api_process(redis_url, "--timeout-keep-alive", "1", **settings) as api:
        # Its client keeps no connection, so that whatever is open belongs to a reader.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S, limits=limits) as client:
            yield api, client


async def until_left(api: Api, most: int = 0) -> None:
    """Wait until the API has no more than so many connections of clients open."""

    async def held() -> int:
        return accepted(api.process.pid, api.url)

    async def left() -> bool:
        return await held() <= most

    await until(left, f"{most} connections of clients at most", details=held)


async def test_readers_that_take_nothing(strict: tuple[Api, httpx.AsyncClient], redis: Redis) -> None:
    """They lose their connection in time; until then they cost no memory to speak of, and others read as ever."""
    api, client = strict
    pid = api.process.pid
    await follow(client, await start(client, "count", to=1))
    memory_before = resident(pid)

    task_id = await start(client, "bulky", **BULKY)
    stuck = [Client(api.url, task_id, buffer=4_096) for _ in range(40)]
    behind = await asyncio.gather(*(follow(client, task_id) for _ in range(3)))
    assert [(len(chunks), end) for chunks, end, _ in behind] == [(BULKY["chunks"], "done")] * 3
    # All of it, for each of them, would be 640 MiB.
    assert resident(pid) - memory_before < 200 << 20
    await until_left(api)
    for each in stuck:
        each.close()


# A log of 8 MiB, in 32 entries of nearly the most that a chunk may have.
LARGE: Final[dict[str, Any]] = {"chunks": 32, "size": 255_000}
BUDGET: Final = 8 << 20


async def test_late_readers_of_large_chunks_that_take_nothing(redis_url: str, worker: object, redis: Redis) -> None:
    """A hundred hold no more pages in the memory of the API than its budget allows. A reader that takes what it is
    sent waits behind them until they lose their connection, and gets all of it.
    """
    settings = {"TAILRACE_SEND_TIMEOUT_S": "4", "TAILRACE_HEARTBEAT_S": "5", "TAILRACE_PAGE_BYTES": str(BUDGET)}
    with api_process(redis_url, **settings) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            task_id = await start(client, "bulky", **LARGE)
            await events(client, task_id)
            memory_before = resident(api.process.pid)
            stuck = [Client(api.url, task_id, buffer=4_096) for _ in range(100)]
            for each in stuck:
                await each.until(b": open\n")
            late = Client(api.url, task_id, "Connection: close")
            most = 0

            async def has_all() -> bool:
                nonlocal most
                most = max(most, resident(api.process.pid) - memory_before)
                return b"\nevent: done\n" in late.received[-100:]

            reading = asyncio.create_task(late.until_end())
            await until(has_all, "the late reader has the whole log", deadline_s=3 * DEADLINE_S)
            await reading
            assert late.ids == list(range(LARGE["chunks"] + 1))
            # Each of them would hold some MiB. The page that is read and formatted at a moment is not in the budget.
            assert most < 3 * BUDGET, f"{most >> 20} MiB"
            await until_left(api, 1)  # the client's own
            for each in [*stuck, late]:
                each.close()


async def test_a_reader_that_stops_before_the_last_piece(strict: tuple[Api, httpx.AsyncClient], redis: Redis) -> None:
    """Unsent bytes of a finished response keep no connection open either."""
    api, client = strict
    task_id = await start(client, "bulky", **BULKY)
    await follow(client, task_id)
    # From different places on, so that for some only the very last piece does not fit.
    cursors = range(BULKY["chunks"] - 2_000, BULKY["chunks"], 50)
    stuck = [Client(api.url, task_id, f"Last-Event-ID: {cursor}", buffer=4_096) for cursor in cursors]
    for each in stuck:
        await each.until(b"\r\n\r\n")
    await until_left(api)
    for each in stuck:
        each.close()


@pytest.mark.parametrize("leave", [Client.reset, Client.close])
async def test_readers_that_leave_at_any_moment(
    api: Api, client: httpx.AsyncClient, redis: Redis, tmp_path: Path, leave: Callable[[Client], None]
) -> None:
    """Before the answer, between headers and first event, in a replay, under back pressure: nothing stays behind."""
    ended = await start(client, "bulky", **BULKY)
    await follow(client, ended)
    running = await start(client, "silent", note=str(tmp_path / "note"))
    await events(client, running, most=1)
    before = accepted(api.process.pid, api.url)

    for _ in range(20):
        leave(Client(api.url, running))
        waiting = Client(api.url, running, "Last-Event-ID: 0")
        await waiting.until(b"\r\n\r\n")
        leave(waiting)
        replaying = Client(api.url, ended)
        await replaying.until(b"\nid: 100\n")
        leave(replaying)
        stuck = Client(api.url, ended, buffer=4_096)
        await stuck.until(b"\r\n\r\n")
        leave(stuck)

    await until_left(api, before)
    await unheard(redis, running)
    await client.delete(f"/tasks/{running}")


async def test_a_client_that_would_like_it_compressed(api: Api, client: httpx.AsyncClient, redis: Redis) -> None:
    """It gets the stream as it comes: a compressor would hold entries back."""
    task_id = await start(client, "count", to=1_000, every=0.5)
    reader = Client(api.url, task_id, "Accept-Encoding: gzip, br, deflate")
    async with asyncio.timeout(DEADLINE_S):
        await reader.until(b"\nid: 1\n")
    assert b"content-encoding" not in reader.received.lower()
    reader.close()
    await client.delete(f"/tasks/{task_id}")


async def test_a_reader_that_hops(apis: list[Api], redis: Redis) -> None:
    """From one API to the other after every event: ids are the same everywhere, nothing is missing or comes twice."""
    clients = [httpx.AsyncClient(base_url=each.url, timeout=DEADLINE_S) for each in apis]
    task_id = await start(clients[0], "count", to=50, every=0.01)
    seen = await events(clients[0], task_id, most=1)
    while seen[-1].event == "message":
        seen += await events(clients[len(seen) % 2], task_id, after=seen[-1].id, most=1)
    assert [int(event.id) for event in seen] == list(range(51))
    assert data(seen) == list(range(1, 51))
    for client in clients:
        await client.aclose()


async def test_readers_that_all_come_at_once(redis_url: str, client: httpx.AsyncClient, redis: Redis) -> None:
    """Far from Redis, where each look takes its time: five hundred that come back together are all served."""
    task_id = await start(client, "count", to=2, every=600)
    await events(client, task_id, most=1)
    async with proxy_of(redis_url) as proxy:
        with api_process(proxy.url) as api:
            proxy.delay_s = 0.02
            readers = [Client(api.url, task_id) for _ in range(500)]
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*(reader.until(b"\nid: 0\n") for reader in readers))
            for reader in readers:
                reader.close()
    await client.delete(f"/tasks/{task_id}")
