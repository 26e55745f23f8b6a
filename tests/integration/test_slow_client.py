"""A writer whose client is slow at an unlucky moment, step by step: the loop's order is part of the case."""

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import pytest
from redis.asyncio import Redis

from plugins import entries
from services.api.redis_client import subscriber_pool_of
from services.api.settings import Settings
from services.api.streams.formats import SSE
from services.api.streams.hub import Hub
from services.api.streams.page_budget import PageBudget
from services.api.streams.pages import PageSemaphore
from services.api.streams.reader import Reader
from services.api.streams.tail import Tail
from services.api.streams.transport import Connection
from services.api.streams.writer import Writer
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


class Client:
    """The other end: it takes what it is sent, or lets it wait."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.willing = asyncio.Event()

    async def send(self, message: Any) -> None:
        """As ASGI calls it."""
        await self.willing.wait()
        self.taken.append(message["body"])

    async def receive(self) -> Any:
        """Nothing comes from it."""
        await asyncio.Event().wait()


def line(seq: int) -> bytes:
    """An entry of the log."""
    return entries.encode("chunk", 1, seq, 1_764_000_000_000, seq)


@pytest.fixture
async def tail(redis: Redis) -> AsyncIterator[Tail]:
    """A tail that hears, of a log that is empty so far."""
    tail = Tail(redis, token_hex(16), SSE, heartbeat_s=3_600)
    tail.readers = 1
    following = asyncio.create_task(tail.follow())
    tail.request_rescan()

    def heard() -> int:
        tail.on_published(line(0))
        return tail.next

    await until(heard)
    yield tail
    following.cancel()


async def turns(number: int = 5) -> None:
    """Let everything that is ready have its turn, and what follows from it."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_woken_in_the_step_in_which_it_caught_up(redis_url: str, redis: Redis, tail: Tail) -> None:
    """A writer that has just caught up, is woken at once, and whose client takes nothing this time, is still known: its
    connection going, it stops, and is not left behind in the tail.
    """
    client = Client()
    before = asyncio.all_tasks()
    hub = Hub(redis, Settings(redis_url=redis_url), subscriber_pool_of(redis_url))
    writer = Writer(
        hub, Reader(tail, 0, PageSemaphore(2, 15), PageBudget(67_108_864, 15)), client.send, Connection(client.receive)
    )
    writer.wake(b"hello")
    await turns()
    assert asyncio.all_tasks() - before  # it waits for its client, in a task

    def next_entry() -> None:
        client.willing.clear()
        tail.on_published(line(2))

    # In this order: the client takes all there is, and it waits; an entry comes, which the client does not take; it is
    # woken for the entry before.
    client.willing.set()
    asyncio.get_running_loop().call_soon(next_entry)
    tail.on_published(line(1))
    await turns()
    assert client.taken[0] == b"hello"
    assert b"id: 1\n" in client.taken[-1]

    writer.stop()
    client.willing.set()
    await turns()
    tail.on_published(line(3))
    await turns()
    assert b"id: 1\n" in client.taken[-1]
    assert asyncio.all_tasks() - before == set()


async def test_ended_while_nothing_comes(redis_url: str, redis: Redis, tail: Tail) -> None:
    """A writer that is ended says when to come back at once, however long its stream says nothing."""
    client = Client()
    client.willing.set()
    hub = Hub(redis, Settings(redis_url=redis_url), subscriber_pool_of(redis_url))
    reader = Reader(tail, tail.next, PageSemaphore(2, 15), PageBudget(67_108_864, 15))
    writer = Writer(hub, reader, client.send, Connection(client.receive))
    writer.wake(b"hello")
    assert client.taken == [b"hello"]
    writer.end()
    assert client.taken[1].startswith(b"retry: ")
    assert (client.taken[2:], reader.complete) == ([b""], False)
    writer.stop()
