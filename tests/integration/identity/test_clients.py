"""Clients follow a stream, each with its own way to send a key, and come back to it."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.client import data, events, start
from tests.support.key_files import KeyFile, bearer
from tests.support.npm import install
from tests.support.processes import ROOT, Api, Process
from tests.support.programs import program
from tests.support.proxy import Proxy
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

FETCH_EVENT_SOURCE: Final = "@microsoft/fetch-event-source@2.0.1"

# The whole stream of `count` to 40: the cursors, and what they stand for.
WHOLE: Final = [*((seq, str(seq + 1)) for seq in range(40)), (40, '{"chunks":40}')]


@pytest.fixture
async def key(callers: httpx.AsyncClient, key_file: KeyFile) -> str:
    """A key that the API knows."""
    key = key_file.add("reader")

    async def known() -> bool:
        return (await callers.get("/tasks", headers=bearer(key))).status_code == 200

    await until(known, "the key is known")
    return key


async def slow_count(callers: httpx.AsyncClient, key: str) -> str:
    """Start a task that takes about four seconds; its id."""
    return await start(callers, "count", bearer(key), to=40, every=0.1)


@pytest.mark.parametrize("header", ["Authorization", "x-api-key"])
async def test_httpx_sse(guarded: Api, callers: httpx.AsyncClient, key: str, header: str) -> None:
    """It sends a header: a bearer, or the one that langgraph-sdk sends."""
    task_id = await slow_count(callers, key)
    headers = {header: f"Bearer {key}" if header == "Authorization" else key}
    async with httpx.AsyncClient(base_url=guarded.url, headers=headers, timeout=DEADLINE_S) as client:
        seen = await events(client, task_id, most=5)
        seen += await events(client, task_id, after=seen[-1].id)
    assert [event.id for event in seen] == [str(seq) for seq, _ in WHOLE]
    assert data(seen)[:40] == list(range(1, 41))


@pytest.mark.program
async def test_curl(guarded: Api, callers: httpx.AsyncClient, key: str) -> None:
    """A script of a shell follows, loses its connection, and comes back with the last cursor that it has seen."""
    task_id = await slow_count(callers, key)

    url = f"{guarded.url}/tasks/{task_id}/stream"
    command = [program("curl"), "-sSN", "--fail", "-H", f"Authorization: Bearer {key}", url]
    first = Process(command)
    await asyncio.to_thread(first.wait_for, r"id: ?5\n")
    await asyncio.to_thread(first.kill)
    seen = cursors(first.output)
    second = Process([*command, "-H", f"Last-Event-ID: {seen[-1]}"])
    assert await asyncio.to_thread(second.wait) == 0
    assert seen + cursors(second.output) == [seq for seq, _ in WHOLE]


def cursors(text: str) -> list[int]:
    """The cursors of the whole events in this text."""
    return [int(found) for found in re.findall(r"^id: ?(\d+)\n(?:.+\n)*\n", text, re.MULTILINE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fetch-event-source, and a script that follows a stream by it."""
    folder: Path = tmp_path_factory.mktemp("follower")
    install([FETCH_EVENT_SOURCE], folder)
    shutil.copy(ROOT / "tests/support/follow.js", folder)
    return folder


@pytest.mark.program
async def test_fetch_event_source(guarded: Api, callers: httpx.AsyncClient, key: str, folder: Path) -> None:
    """Its connection is cut, and it comes back by itself with its key and its cursor: each entry arrives once."""
    task_id = await slow_count(callers, key)
    async with Proxy(int(guarded.url.rpartition(":")[2])) as network:
        url = f"http://{urlsplit(network.url).netloc}/tasks/{task_id}/stream"
        client = Process([program("node"), "follow.js", url, key], cwd=folder)
        try:
            await asyncio.to_thread(client.wait_for, "entry 5 ")
            network.cut()
            assert await asyncio.to_thread(client.wait) == 0, client.output
        finally:
            await asyncio.to_thread(client.kill)
    assert re.findall(r"^entry (\d+) (.*)$", client.output, re.MULTILINE) == [(str(seq), text) for seq, text in WHOLE]
    assert client.output.count("status 200") == 2


@pytest.mark.program
async def test_fetch_event_source_with_a_key_that_is_none(guarded: Api, key: str, folder: Path) -> None:
    """It reads why, and need not ask again."""
    client = Process([program("node"), "follow.js", f"{guarded.url}/tasks/{'0' * 32}/stream", key[:-1]], cwd=folder)
    try:
        assert await asyncio.to_thread(client.wait) == 0, client.output
    finally:
        await asyncio.to_thread(client.kill)
    assert client.output == "status 401\nurn:tailrace:problem:invalid-credential\n"
