"""Pages of a log: as many entries as make about so many bytes, and come within the time there is."""

from itertools import pairwise
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from plugins import keys
from services.api.page import BYTES, FIRST, GROWTH, MOST, Pages
from tests.system import proxy_of

pytestmark = pytest.mark.anyio


async def log(redis: Redis, *lines: bytes) -> str:
    """The id of a task whose log is these lines."""
    task_id = uuid4().hex
    for start in range(0, len(lines), 1_000):
        await redis.rpush(keys.chunks(task_id), *lines[start : start + 1_000])
    await redis.expire(keys.chunks(task_id), 60)
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
    read = await lengths(Pages(redis, task_id), 6_000)
    assert read[0] == FIRST
    assert all(after == min(before * GROWTH, MOST) for before, after in pairwise(read[:-1]))
    assert max(read) == MOST


async def test_long_entries(redis: Redis) -> None:
    """One page may turn out too large, where short entries are followed by long ones; those after it are not."""
    task_id = await log(redis, *[b"x" * 40] * 160, *[b"x" * 20_000] * 400)
    read = await lengths(Pages(redis, task_id), 560)
    large = next(number for number in range(len(read)) if sum(read[: number + 1]) > 160)
    assert all(many * 20_000 <= BYTES for many in read[large + 1 :])


async def test_a_page_that_does_not_come_in_time(redis_url: str, redis: Redis) -> None:
    """It is asked for again, as a shorter one: what a slow network does not carry at once, it carries in parts."""
    task_id = await log(redis, *[b"x" * 40] * 6_000)
    async with proxy_of(redis_url) as proxy:
        far = Redis.from_url(proxy.url, socket_timeout=0.2, retry=Retry(NoBackoff(), 0))
        async with far:
            pages = Pages(far, task_id)
            read = [len(await pages.read(0, 6_000)) for _ in range(4)]
            assert read[-1] == MOST
            proxy.freeze()
            with pytest.raises(RedisError):
                await pages.read(0, 6_000)
            proxy.thaw()
            proxy.cut()
            assert len(await pages.read(0, 6_000)) == MOST // GROWTH
