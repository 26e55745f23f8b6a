"""Ten thousand readers that come and go: the process is afterwards what it was before.

The API runs in the test's own loop, so that its tasks can be counted.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import getpid
from typing import Any, Final

import httpx
import pytest
import uvicorn
from redis.asyncio import Redis

from services.api.app import create_app
from services.api.settings import Settings
from tests.support.client import events, follow, start
from tests.support.processes import worker_process
from tests.support.sockets import Client, descriptors
from tests.support.waiting import DEADLINE_S, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.chaos,
    pytest.mark.timeout(300),
]

CYCLES: Final = 10_000
AT_ONCE: Final = 50
SEED: Final = secrets.randbelow(1_000_000)


@asynccontextmanager
async def api_here(redis_url: str) -> AsyncIterator[str]:
    """The API in this process; its address."""
    app = create_app(Settings(redis_url=redis_url))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


async def come_and_go(url: str, ended: str, running: str, dice: random.Random) -> None:
    """One reader, of one of the many kinds."""
    reader = Client(url, dice.choice([ended, running]))
    try:
        match dice.randrange(4):
            case 0:
                pass  # gone before the answer
            case 1:
                await reader.read()
            case 2:
                await reader.until(b"\nid: 0\n")
            case 3:
                await reader.until(b"\nid: 0\n")
                await asyncio.sleep(0)
    finally:
        dice.choice([reader.close, reader.reset])()


async def state(redis: Redis) -> dict[str, Any]:
    """The counts that must not grow. Connections are this process's: a worker opens its second one when it needs it."""
    clients: Any = await redis.client_list()
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": descriptors(getpid()),
        "connections to Redis": sum(client["name"].endswith(f"-{getpid()}") for client in clients),
        "subscriptions": len(await redis.pubsub_channels("stream:*")),
    }


async def test_ten_thousand_readers_come_and_go(own_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the answer, during it, in a replay or live, politely or not: no task, descriptor, subscription stays."""
    with worker_process(own_database):
        async with api_here(own_database) as url, Redis.from_url(own_database) as redis:
            async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as client:
                ended = await start(client, "burst", chunks=1_000)
                await follow(client, ended)
                running = await start(client, "count", to=1_000_000, every=0.2)
                await events(client, running, most=1)
                # The pool opens its connections when they are wanted at once. With all of them open, more is a leak.
                await asyncio.gather(*(client.get("/tasks") for _ in range(AT_ONCE)))
            before = await state(redis)
            with capsys.disabled():
                print(f"\nseed {SEED}; before: {before}")

            dice = random.Random(SEED)
            for _ in range(CYCLES // AT_ONCE):
                coming = (come_and_go(url, ended, running, dice) for _ in range(AT_ONCE))
                async with asyncio.timeout(DEADLINE_S):
                    await asyncio.gather(*coming)

            after: dict[str, Any] = {}

            async def as_before() -> bool:
                after.update(await state(redis))
                return all(after[name] <= before[name] for name in before)

            await until(as_before, "nothing has grown", details=lambda: state(redis))
            with capsys.disabled():
                print(f"after {CYCLES:,}: {after}")
