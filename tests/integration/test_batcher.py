"""Round trips that a worker's tasks share: each task gets its own replies, in order, even if other calls fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from services.worker.redis_client.batcher import COALESCE_TICKS, MAX_BATCH_SIZE, MAX_IN_FLIGHT, Batcher
from tests.support.proxy import Proxy
from tests.support.system import proxy_of
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Answers how often it was called, for this key.
COUNTING = "return redis.call('INCR', KEYS[1])"


@pytest.fixture
async def proxy(own_database: str) -> AsyncIterator[Proxy]:
    """The network between the trips and Redis."""
    async with proxy_of(own_database) as proxy:
        yield proxy


@pytest.fixture
async def far(proxy: Proxy) -> AsyncIterator[Redis]:
    """A client that goes through it; its database is empty, before and after."""
    pool = BlockingConnectionPool.from_url(proxy.url, max_connections=4)
    async with Redis.from_pool(pool) as redis:
        await redis.flushdb()
        yield redis
        proxy.thaw()
        await redis.flushdb()


async def go(batcher: Batcher, *commands: tuple[Any, ...]) -> list[Any]:
    """The replies to these commands, in time."""
    async with asyncio.timeout(DEADLINE_S):
        return await batcher.execute(commands)


async def held_up(proxy: Proxy, batcher: Batcher) -> list[asyncio.Task[Any]]:
    """As many trips as there may be, on their way, and not yet there."""
    proxy.freeze()
    under_way = []
    for _ in range(MAX_IN_FLIGHT):
        # Each makes a full trip, so that the next need not wait for it.
        under_way.append(asyncio.create_task(go(batcher, ("RPUSH", "under way", *range(MAX_BATCH_SIZE)))))
        for _ in range(COALESCE_TICKS + 2):
            await asyncio.sleep(0)  # so that each goes alone
    assert len(batcher.in_flight) == MAX_IN_FLIGHT
    return under_way


async def test_everybody_gets_their_own_answers(far: Redis) -> None:
    """However many ask at once, and however much: each gets the answers to what they asked, in its order."""
    batcher = Batcher(far)

    async def ask(number: int) -> list[Any]:
        return await go(batcher, ("SET", number, number), ("INCR", number), ("GET", number))

    answers = await asyncio.gather(*(ask(number) for number in range(1_000)))
    assert [(int(count), int(value)) for _, count, value in answers] == [
        (number + 1, number + 1) for number in range(1_000)
    ]


async def test_who_asks_while_others_are_on_their_way_goes_with_the_next(proxy: Proxy, far: Redis) -> None:
    """A hundred waiting calls cost two more trips, and keep their order."""
    batcher = Batcher(far)
    await asyncio.gather(*(far.ping() for _ in range(4)))
    under_way = await held_up(proxy, batcher)
    places = [asyncio.create_task(go(batcher, ("RPUSH", "order", number))) for number in range(100)]
    await asyncio.sleep(0)
    proxy.thaw()
    await asyncio.gather(*under_way)
    assert [int((await place)[0]) for place in places] == list(range(1, 101))
    assert [int(each) for each in await far.lrange("order", 0, -1)] == list(range(100))


async def test_a_large_trip_is_several(far: Redis) -> None:
    """A task with many commands does not hold up the others for all of them: the size of a trip is limited."""
    batcher = Batcher(far)
    much = [("RPUSH", "much", *range(MAX_BATCH_SIZE))]
    async with asyncio.timeout(DEADLINE_S):
        answers = await asyncio.gather(*(batcher.execute(much) for _ in range(10)))
    # Two are under way at once, on two connections: which of them comes first is open.
    assert sorted(int(length) for (length,) in answers) == [MAX_BATCH_SIZE * times for times in range(1, 11)]


async def test_large_chunks_travel_alone(proxy: Proxy, far: Redis) -> None:
    """A trip is bounded in bytes, too: a slow network would never carry a larger one. Each of
    these makes a trip of its own, so a connection that is lost is one call's matter.
    """
    batcher = Batcher(far)
    under_way = await held_up(proxy, batcher)
    proxy.drop_replies(1, after=b"large:3")
    chunk = bytes(262_144)
    appends = [asyncio.create_task(go(batcher, ("RPUSH", f"large:{number}", *[chunk] * 4))) for number in range(6)]
    await asyncio.sleep(0)
    proxy.thaw()
    await asyncio.gather(*under_way)
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert [isinstance(outcome, RedisConnectionError) for outcome in outcomes] == [number == 3 for number in range(6)]


async def test_a_refusal_is_for_whom_it_concerns(far: Redis) -> None:
    """An error reply to one task's command is no error of the others'."""
    batcher = Batcher(far)
    await far.set("text", "no list")
    wrong, right = (
        asyncio.create_task(go(batcher, ("RPUSH", "text", 1))),
        asyncio.create_task(go(batcher, ("INCR", "n"))),
    )
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await wrong
    assert await right == [1]


async def test_who_no_longer_waits_does_not_go(proxy: Proxy, far: Redis) -> None:
    """A task that is cancelled before its trip has begun has asked for nothing."""
    batcher = Batcher(far)
    under_way = await held_up(proxy, batcher)
    leaves, stays = (asyncio.create_task(go(batcher, ("INCR", name))) for name in ("leaves", "stays"))
    await asyncio.sleep(0)
    leaves.cancel()
    proxy.thaw()
    await asyncio.gather(*under_way, stays)
    assert await far.mget("leaves", "stays") == [None, b"1"]


async def test_scripts_that_were_flushed_come_back(far: Redis) -> None:
    """Calls of a script that Redis has forgotten, on a trip with others, get their replies. No call runs twice."""
    batcher = Batcher(far)
    await far.script_flush()
    async with asyncio.timeout(DEADLINE_S):
        counted, other = await asyncio.gather(
            batcher.run_script(COUNTING, ["counted"], []), batcher.execute([("INCR", "other")])
        )
    assert (counted, other) == (1, [1])


async def test_a_lost_connection_is_everybodys(proxy: Proxy, far: Redis) -> None:
    """All calls of that trip fail; later calls succeed."""
    batcher = Batcher(far)
    proxy.drop_replies(1, after=b"unlucky")
    both = (
        asyncio.create_task(go(batcher, ("SET", "unlucky", 1))),
        asyncio.create_task(go(batcher, ("SET", "with it", 1))),
    )
    for each in both:
        with pytest.raises(RedisConnectionError):
            await each
    assert await go(batcher, ("INCR", "after")) == [1]


async def test_leaving_ends_what_is_under_way(proxy: Proxy, far: Redis) -> None:
    """A worker that leaves while Redis is silent: no trip goes on, none begins, and no call waits for ever."""
    batcher = Batcher(far)
    under_way = await held_up(proxy, batcher)
    waits = asyncio.create_task(go(batcher, ("INCR", "never")))
    await asyncio.sleep(0)
    batcher.stop()
    for each in (*under_way, waits):
        with pytest.raises(asyncio.CancelledError):
            await each

    async def ended() -> bool:
        return not batcher.in_flight

    await until(ended)
    proxy.thaw()
    assert await far.get("never") is None
