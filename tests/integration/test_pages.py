"""Pages of a log: as many entries as make about so many bytes, and come within the time there is."""

import asyncio
import re
from contextlib import AsyncExitStack, nullcontext
from itertools import pairwise
from typing import Final
from uuid import uuid4

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from plugins import keys
from services.api.streams.late_pages import LatePages
from services.api.streams.page_budget import PageBudget
from services.api.streams.pages import FIRST_PAGE_ENTRIES, GROWTH, MAX_ENTRIES, PAGE_BYTES, Pages, PageSemaphore
from tests.support.client import start
from tests.support.settings import NEVER_S
from tests.support.system import proxy_of, system
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Bytes: room for all pages of a test.
PLENTY: Final = 1_000_000_000


async def log(redis: Redis, *lines: bytes) -> str:
    """The id of a task whose log is these lines."""
    task_id = uuid4().hex
    for at in range(0, len(lines), 1_000):
        await redis.rpush(keys.log(task_id), *lines[at : at + 1_000])
    await redis.expire(keys.log(task_id), 60)
    return task_id


async def lengths(pages: Pages, stop: int) -> list[int]:
    """How many entries each page has, up to `stop`."""
    read: list[int] = []
    while sum(read) < stop:
        read.append(len(await pages.read(sum(read), stop)))
    return read


async def test_short_entries(redis: Redis) -> None:
    """They come in few pages that soon are long."""
    task_id = await log(redis, *[b"x" * 40] * 6_000)
    read = await lengths(Pages(redis, task_id, nullcontext()), 6_000)
    assert read[0] == FIRST_PAGE_ENTRIES
    assert all(after == min(before * GROWTH, MAX_ENTRIES) for before, after in pairwise(read[:-1]))
    assert max(read) == MAX_ENTRIES


async def test_long_entries(redis: Redis) -> None:
    """One page may turn out too large, where short entries are followed by long ones; those after it are not."""
    task_id = await log(redis, *[b"x" * 40] * 160, *[b"x" * 20_000] * 400)
    read = await lengths(Pages(redis, task_id, nullcontext()), 560)
    large = next(number for number in range(len(read)) if sum(read[: number + 1]) > 160)
    assert all(many * 20_000 <= PAGE_BYTES for many in read[large + 1 :])


async def test_a_page_that_does_not_come_in_time(redis_url: str, redis: Redis) -> None:
    """The page is read again in shorter parts: a slow network carries those."""
    task_id = await log(redis, *[b"x" * 40] * 6_000)
    async with proxy_of(redis_url) as proxy:
        far = Redis.from_url(proxy.url, socket_timeout=0.2, retry=Retry(NoBackoff(), 0))
        async with far:
            pages = Pages(far, task_id, nullcontext())
            read = [len(await pages.read(0, 6_000)) for _ in range(4)]
            assert read[-1] == MAX_ENTRIES
            proxy.freeze()
            with pytest.raises(RedisError):
                await pages.read(0, 6_000)
            proxy.thaw()
            proxy.cut()
            assert len(await pages.read(0, 6_000)) == MAX_ENTRIES // GROWTH


async def test_a_turn_that_does_not_come(redis: Redis) -> None:
    """A reader that waits behind others gets an error in time, and its page when the others are done."""
    task_id = await log(redis, *[b"x" * 40] * 10)
    turns = PageSemaphore(2, wait_timeout_s=0.2)
    async with asyncio.timeout(10):
        async with turns:
            for _ in range(2):
                with pytest.raises(RedisError, match=r"no turn to read a page within 0\.2 s"):
                    await Pages(redis, task_id, turns).read(0, 10)
        assert len(await Pages(redis, task_id, turns).read(0, 10)) == 10


async def test_room_for_everything_else(redis_url: str, redis: Redis) -> None:
    """However many late readers there are, other commands wait for a page or two, not for all."""
    task_id = await log(redis, *[b"x" * 80] * 20_000)
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=2, timeout=30)
    many = asyncio.Condition()
    pages, enough = 0, False

    async def read_on_and_on(redis: Redis, turns: PageSemaphore) -> None:
        nonlocal pages
        while not enough:  # no cancel: in Python 3.11 `asyncio.wait_for`, with which redis-py reads, may swallow it
            late, place = LatePages(Pages(redis, task_id, turns), budget), 0
            while place < 20_000:
                place += len(await late.read_on(place, 20_000) or ())
                async with many:
                    pages += 1
                    many.notify_all()

    async with Redis.from_pool(pool) as shared, asyncio.TaskGroup() as group:
        turns, budget = PageSemaphore(2, 30), PageBudget(PLENTY, NEVER_S)
        for _ in range(50):
            group.create_task(read_on_and_on(shared, turns))
        waited = []
        for _ in range(10):
            async with many, asyncio.timeout(30):
                next_look = pages + 100
                await many.wait_for(lambda at=next_look: pages >= at)  # type: ignore[misc]  # mypy infers no lambda with defaults
            before = pages
            await shared.ping()
            waited.append(pages - before)
        enough = True
    assert max(waited) <= 10, waited


async def test_late_readers_of_a_redis_that_is_silent(redis_url: str) -> None:
    """All that wait behind each other hear that we are there; and get the rest, whole, once it answers again."""
    heartbeats = {"TAILRACE_HEARTBEAT_S": "0.5"}
    async with proxy_of(redis_url) as proxy, system(proxy.url, api=heartbeats) as through, AsyncExitStack() as stack:
        task_id = await start(through.client, "bulky", chunks=4_096, size=4_096)
        async with through.client.stream("GET", f"/tasks/{task_id}/stream") as response:
            await response.aread()
        # They take nothing for now: of 16 MiB, most is still to be read when Redis falls silent.
        late = [
            (await stack.enter_async_context(through.client.stream("GET", f"/tasks/{task_id}/stream"))).aiter_bytes()
            for _ in range(8)
        ]
        seen = [bytearray(await anext(pieces)) for pieces in late]
        proxy.freeze()

        async def hear(number: int) -> None:
            while not seen[number].endswith(b"\n:\n"):
                seen[number] += await anext(late[number])

        async with asyncio.timeout(15):  # one command after another, of two tries of two seconds each, would take 32
            await asyncio.gather(*map(hear, range(8)))
        proxy.thaw()

        async def rest(number: int) -> None:
            async for piece in late[number]:
                seen[number] += piece

        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*map(rest, range(8)))
        for each in seen:
            assert list(map(int, re.findall(rb"^id: (\d+)$", each, re.MULTILINE))) == list(range(4_097))


async def late_pages(redis: Redis, budget: PageBudget, task_id: str) -> LatePages:
    """The pages of one late reader that has read the first."""
    late = LatePages(Pages(redis, task_id, PageSemaphore(10, 30), 2), budget)
    assert len(await late.read_on(0, 20) or ()) == 2
    return late


async def test_readers_wait_until_another_gives_back(redis: Redis) -> None:
    """The budget has room for one page. Readers get theirs in the order in which they came, one after the other, and
    none is turned away; a reader that waits is told that it is not its turn.
    """
    task_id = await log(redis, *[b"x" * 100_000] * 20)
    budget = PageBudget(1, patience_s=0.01)
    holder = await late_pages(redis, budget, task_id)
    others = [LatePages(Pages(redis, task_id, PageSemaphore(10, 30)), budget) for _ in range(3)]
    for number, late in enumerate(others):
        assert await asyncio.gather(*(each.read_on(0, 20) for each in others[number:])) == [None] * (3 - number)
        holder.release()
        for each in others[number + 1 :]:
            assert await each.read_on(0, 20) is None
        assert await late.read_on(0, 20)
        holder = late
    for late in others:
        late.close()


@pytest.mark.parametrize("leave", ["before its turn", "while it reads", "with a page"])
async def test_a_reader_that_leaves_gives_back(redis: Redis, leave: str) -> None:
    """Whenever its client leaves, and however often, the budget has all of its bytes for those that stay."""
    task_id = await log(redis, *[b"x" * 100_000] * 20)
    budget = PageBudget(1, patience_s=0.01)
    for _ in range(20):
        late = LatePages(Pages(redis, task_id, PageSemaphore(10, 30)), budget)
        other = await late_pages(redis, budget, task_id) if leave == "before its turn" else None
        reading = asyncio.create_task(late.read_on(0, 20))
        if leave == "while it reads":
            await asyncio.sleep(0)
        else:
            await reading
        late.close()
        reading.cancel()
        await asyncio.wait([reading])
        if other is not None:
            other.close()
        assert budget._free == 1
    (await late_pages(redis, budget, task_id)).close()
