"""An API that is told to stop: its streams end well, its readers go on elsewhere, and it is gone in time."""

import asyncio
import re
import signal
import time
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import events, start
from tests.support.processes import api_process
from tests.support.sockets import Client
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio

READERS: Final = 200

# Seconds that are promised, and what a busy machine takes on top to run two hundred clients of a test.
PROMISED_S: Final = 2
PATIENCE_S: Final = 2


async def test_two_hundred_streams_end_well(redis_url: str, client: httpx.AsyncClient, redis: Redis) -> None:
    """Each gets another `retry:` and a complete response, though some other clients take nothing at all."""
    ended = await start(client, "bulky", chunks=4_096, size=4_096)
    await events(client, ended)
    running = await start(client, "count", to=100, every=0.1)
    with api_process(redis_url) as leaving:
        readers = [Client(leaving.url, running) for _ in range(READERS)]
        stuck = [Client(leaving.url, ended, buffer=4_096) for _ in range(10)]
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(reader.until(b"\nid: 2\n") for reader in readers))
            await asyncio.gather(*(each.until(b"\r\n\r\n") for each in stuck))
        begun = time.monotonic()
        leaving.process.signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            received = await asyncio.gather(*(reader.until_end() for reader in readers))
        # uvicorn ends with the signal that it was told to end with.
        assert await asyncio.to_thread(leaving.process.wait) == -signal.SIGTERM
        assert time.monotonic() - begun < PROMISED_S + PATIENCE_S

    for body in received:
        assert re.search(rb"\nretry: \d{4}\n\r\n0\r\n\r\n$", body), body[-100:]
    for each in [*readers, *stuck]:
        each.close()
    last = {max(reader.ids) for reader in readers}
    for after in last:
        assert [int(event.id) for event in await events(client, running, after=str(after))] == list(
            range(after + 1, 101)
        )


async def test_nobody_new_comes_to_one_that_leaves(redis_url: str, client: httpx.AsyncClient, redis: Redis) -> None:
    """Readiness answers no 200 from the signal on, so that a load balancer sends no client there."""
    task_id = await start(client, "count", to=1_000, every=0.1)
    with api_process(redis_url) as leaving:
        reader = Client(leaving.url, task_id)
        await reader.until(b"\nid: 0\n")
        leaving.process.signal(signal.SIGTERM)
        await reader.until_end()  # from here on the signal has been heard
        async with httpx.AsyncClient(base_url=leaving.url, timeout=DEADLINE_S) as late:
            with suppress(httpx.TransportError):  # refused: as good
                assert (await late.get("/health/ready")).status_code == 503
        reader.close()
    await client.delete(f"/tasks/{task_id}")


async def test_a_request_that_never_ends(redis_url: str, redis: Redis) -> None:
    """With the flag that the README gives, an API leaves though a client stopped in the middle of what it sends."""
    with api_process(redis_url, "--timeout-graceful-shutdown", "1") as leaving:
        address = urlsplit(leaving.url)
        _, half = await asyncio.open_connection(address.hostname, address.port)
        half.write(b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        async with httpx.AsyncClient(base_url=leaving.url, timeout=DEADLINE_S) as client:
            assert (await client.get("/health/live")).status_code == 200  # what was sent before has been read, too
        leaving.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(leaving.process.wait) == -signal.SIGTERM
        half.close()
