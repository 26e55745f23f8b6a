"""Since when an API is in contact with Redis: recovery judges no lease before it is for as long as a lease lasts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.api.tasks.contact import LOOK_S, Contact
from tests.support.processes import free_port
from tests.support.proxy import Proxy
from tests.support.redis_servers import EmbeddedRedis
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LEASE_S: Final = 3

# A pause that is too long.
PAUSE_S: Final = LOOK_S + LEASE_S / 3 + 0.1

# So long the contact has to last here.
LASTS_S: Final = 0.2


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedRedis]:
    """A Redis of the test's own."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def proxy(server: EmbeddedRedis) -> AsyncIterator[Proxy]:
    """The network before it."""
    async with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def contact(proxy: Proxy) -> AsyncIterator[Contact]:
    """That of an API behind this network, which lasts."""
    async with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as redis:
        contact = Contact(redis, LEASE_S)
        assert not contact.lasts(0)
        await lasting(contact)
        yield contact


async def lasting(contact: Contact) -> None:
    """Look until it lasts."""

    async def lasts() -> bool:
        await contact.look()
        return contact.lasts(LASTS_S)

    await until(lasts)


async def passed(server: EmbeddedRedis, seconds: float) -> None:
    """Wait until so much time has passed for the server."""
    async with Redis.from_url(server.url) as redis:

        async def now() -> float:
            seconds, microseconds = await redis.time()
            return float(seconds) + microseconds / 1_000_000

        begin = await now()

        async def over() -> bool:
            return await now() - begin > seconds

        await until(over)


async def test_a_pause(contact: Contact, proxy: Proxy, server: EmbeddedRedis) -> None:
    """No error says that there was one, but the server's clock has moved on: workers may not have renewed."""
    proxy.freeze()
    looking = asyncio.create_task(contact.look())
    await passed(server, PAUSE_S)
    proxy.thaw()
    await looking
    assert not contact.lasts(LASTS_S)
    await lasting(contact)


async def test_a_short_outage(contact: Contact, proxy: Proxy, server: EmbeddedRedis) -> None:
    """Workers renew in time after it. A look that fails, because Redis or this process is busy, delays no recovery."""
    proxy.retarget(free_port())
    proxy.cut()
    with pytest.raises(RedisError):
        await contact.look()
    proxy.retarget(server.port)
    await contact.look()
    assert contact.lasts(LASTS_S)


async def test_a_look_that_is_overtaken(contact: Contact, proxy: Proxy) -> None:
    """Recovery looks while the regular look is on its way: that is no pause."""
    proxy.hold_reply(after=b"TIME")
    first = asyncio.create_task(contact.look())
    second = asyncio.create_task(contact.look())
    await asyncio.wait({first, second}, timeout=0.1)
    proxy.thaw()
    await asyncio.gather(first, second)
    assert contact.lasts(LASTS_S)
