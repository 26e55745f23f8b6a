"""An API that is told to stop: its streams break off, its readers go on elsewhere, and it is gone in time."""

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
from tests.support.sockets import Client, accepted
from tests.support.sse import strict
from tests.support.system import proxy_of
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

READERS: Final = 200

# Seconds that are promised, and what a busy machine takes on top to run two hundred clients of a test.
PROMISED_S: Final = 2
PATIENCE_S: Final = 2


async def test_two_hundred_streams(redis_url: str, client: httpx.AsyncClient, redis: Redis) -> None:
    """Each gets another `retry:` and no end of the response: many clients take a complete one for the end of the task.
    Some other clients take nothing at all.
    """
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
        assert re.search(rb"\nretry: \d{4}\n\r\n$", body), body[-100:]
    for each in [*readers, *stuck]:
        each.close()
    last = {max(reader.ids) for reader in readers}
    for after in last:
        assert [int(event.id) for event in await events(client, running, after=str(after))] == list(
            range(after + 1, 101)
        )


@pytest.mark.parametrize(
    ("accept", "second"), [("text/event-stream", b"data: 2\n"), ("application/x-ndjson", b":2}\n")]
)
async def test_only_a_task_that_has_ended_completes_a_response(
    redis_url: str, client: httpx.AsyncClient, redis: Redis, accept: str, second: bytes
) -> None:
    """In either format: a response without the task's end breaks off, one with it is complete."""
    task_id = await start(client, "count", to=1_000, every=0.05)
    with api_process(redis_url) as leaving:
        reader = Client(leaving.url, task_id, f"Accept: {accept}")
        async with asyncio.timeout(DEADLINE_S):
            await reader.until(second)
            leaving.process.signal(signal.SIGTERM)
            await reader.until_end()
        reader.close()
        assert await asyncio.to_thread(leaving.process.wait) == -signal.SIGTERM
        assert "ASGI" not in leaving.process.output
    assert not reader.complete

    async with client.stream("GET", f"/tasks/{task_id}/stream", headers={"Accept": accept}) as response:
        assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
        assert b"cancelled" in await response.aread()  # httpx raises if the response breaks off


async def test_a_post_breaks_off_as_well(redis_url: str, client: httpx.AsyncClient, redis: Redis) -> None:
    """The stream that answers a POST is like any other."""
    with api_process(redis_url) as leaving:
        async with httpx.AsyncClient(base_url=leaving.url, timeout=DEADLINE_S) as other:
            headers, body = {"Accept": "text/event-stream"}, {"to": 1_000, "every": 0.05}
            async with other.stream("POST", "/functions/count/tasks", headers=headers, json=body) as response:
                pieces, received = response.aiter_bytes(), b""
                while b"id: 1\n" not in received:
                    received += await anext(pieces)
                leaving.process.signal(signal.SIGTERM)
                with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                    [piece async for piece in pieces]
    assert (await client.delete(response.links["status"]["url"])).status_code == 202


async def test_a_client_that_comes_back_to_an_api_that_leaves(
    redis_url: str, client: httpx.AsyncClient, redis: Redis
) -> None:
    """It is told to come back once more, with the status at which an `EventSource` does."""
    task_id = await start(client, "count", to=1_000, every=0.1)
    async with proxy_of(redis_url) as proxy:
        with api_process(proxy.url) as leaving:
            reader = Client(leaving.url, task_id)
            async with asyncio.timeout(DEADLINE_S):
                await reader.until(b"\nid: 0\n")
                proxy.freeze()
                late = Client(leaving.url, task_id, "Last-Event-ID: 0")
                await until(lambda: accepted(leaving.process.pid, leaving.url) == 2, "both connections are there")
                leaving.process.signal(signal.SIGTERM)
                await reader.until_end()  # from here on the signal has been heard
                proxy.thaw()
                await late.until_end()
            reader.close()
            late.close()
    assert late.received.startswith(b"HTTP/1.1 200 ")
    assert strict(late.body) == []
    assert late.body.count(b"retry: ") == 2
    assert not late.complete
    await client.delete(f"/tasks/{task_id}")


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


@pytest.mark.parametrize("pause_s", [0, 0.0001, 0.01])
async def test_many_signals(redis_url: str, client: httpx.AsyncClient, redis: Redis, pause_s: float) -> None:
    """An API that is told to stop several times ends as for one."""
    task_id = await start(client, "count", to=1_000, every=0.1)
    with api_process(redis_url) as leaving:
        reader = Client(leaving.url, task_id)
        async with asyncio.timeout(DEADLINE_S):
            await reader.until(b"\nid: 0\n")
            for _ in range(20):
                leaving.process.signal(signal.SIGTERM)
                await asyncio.sleep(pause_s)
            received = await reader.until_end()
        assert await asyncio.to_thread(leaving.process.wait) == -signal.SIGTERM
        assert "Traceback" not in leaving.process.output
    reader.close()
    assert re.search(rb"\nretry: \d{4}\n\r\n$", received), received[-100:]
    await client.delete(f"/tasks/{task_id}")


async def test_a_request_that_never_ends(redis_url: str, redis: Redis) -> None:
    """With the flag that docs/deploy.md gives, an API leaves though a client stopped in the middle of what it sends."""
    with api_process(redis_url, "--timeout-graceful-shutdown", "1") as leaving:
        address = urlsplit(leaving.url)
        _, half = await asyncio.open_connection(address.hostname, address.port)
        half.write(b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        async with httpx.AsyncClient(base_url=leaving.url, timeout=DEADLINE_S) as client:
            assert (await client.get("/health/live")).status_code == 200  # what was sent before has been read, too
        leaving.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(leaving.process.wait) == -signal.SIGTERM
        half.close()
