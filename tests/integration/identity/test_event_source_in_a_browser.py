"""A browser's own `EventSource` follows a task by tickets, from a page of another origin, on a network that cuts."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.support.browser import Pages, pages
from tests.support.client import client_of, start
from tests.support.key_files import TICKET_KEY, KeyFile, bearer
from tests.support.processes import Api, Process, api_process
from tests.support.proxy import Proxy
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.program]

# A task of half a minute. A ticket opens its stream for less, but for longer than a browser waits before it comes back.
NUMBERS: Final = 60
EVERY_S: Final = 0.5
OPEN_S: Final = 15


def opened(api: Api, status: int) -> int:
    """How many requests for a stream the API has answered so."""
    return sum("/stream " in line and f"status={status}" in line for line in api.process.lines)


async def test_a_page_that_loses_its_connection(
    redis_url: str, worker: Process, key_file: KeyFile, tmp_path: Path
) -> None:
    """It comes back by itself as long as its ticket opens the stream. After that it is refused, and the function of
    docs/api.md goes on with another ticket. It gets every chunk once and in order.
    """
    key = key_file.add("a page's own server")
    with pages() as site:
        settings = {"TAILRACE_AUTH": "keys", "TAILRACE_KEYS_FILE": str(key_file.path)}
        settings |= {"TAILRACE_TICKET_KEYS": TICKET_KEY, "TAILRACE_CORS_ORIGINS": site.origin}
        with api_process(redis_url, TAILRACE_TICKET_OPEN_S=str(OPEN_S), **settings) as api:
            async with client_of(api) as client, Proxy(int(api.url.rpartition(":")[2])) as network:
                task_id = await start(client, "count", bearer(key), to=NUMBERS, every=EVERY_S)
                page = asyncio.create_task(visit(site, tmp_path, network, key, task_id))
                await until(lambda: opened(api, 200) == 1, "the page follows the stream")
                over = time.time() + OPEN_S
                network.cut()
                await until(lambda: opened(api, 200) == 2, "it has come back by itself")
                assert opened(api, 401) == 0
                await until(lambda: time.time() > over, "its ticket opens no stream", deadline_s=OPEN_S + 1)
                network.cut()
                await until(lambda: opened(api, 401) == 1, "it is refused")
                await until(lambda: opened(api, 200) == 3, "it has another ticket")
                async with asyncio.timeout(2 * DEADLINE_S):
                    seen = (await page)["follows_by_tickets"]
    assert seen == {"chunks": list(range(1, NUMBERS + 1)), "tickets": 2}


async def visit(site: Pages, folder: Path, network: Proxy, key: str, task_id: str) -> Any:
    """The report of a page that follows this task by this network."""
    given = {"api": f"http://{urlsplit(network.url).netloc}", "key": key, "task": task_id, "last": str(NUMBERS)}
    return await asyncio.to_thread(site.visit, folder, site.origin, "follows_by_tickets", **given)
