"""A whole system whose Redis may be anywhere: a worker, an API, and a client of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from httpx_sse import ServerSentEvent

from tests.support.client import client_of, data, events, follow, start, until_ready
from tests.support.files import appeared
from tests.support.processes import Api, Process, api_process, worker_process
from tests.support.proxy import Proxy
from tests.support.waiting import DEADLINE_S


class System(NamedTuple):
    """The running processes, and a client."""

    worker: Process
    api: Api
    client: httpx.AsyncClient


@asynccontextmanager
async def system(
    url: str, *, worker: Mapping[str, str] | None = None, api: Mapping[str, str] | None = None
) -> AsyncIterator[System]:
    """A worker and an API with this Redis and these settings, once they are ready; none may have been restarted.

    They are waited for in a thread: this loop may be what they reach Redis through.
    """
    with ExitStack() as stack:

        def begin() -> tuple[Process, Api]:
            return (
                stack.enter_context(worker_process(url, **(worker or {}))),
                stack.enter_context(api_process(url, **(api or {}))),
            )

        running, answering = await asyncio.to_thread(begin)
        async with client_of(answering) as client:
            await until_ready(client)
            try:
                yield System(running, answering, client)
            finally:
                # pytest shows this if the test has failed.
                print(running.output, answering.process.output, sep="\n")
        assert_never_restarted(running)
        assert "background task crashed" not in running.output + answering.process.output


def proxy_of(url: str) -> Proxy:
    """A proxy before the Redis at this URL, whose own URL leads to the same database."""
    address = urlsplit(url)
    return Proxy(address.port or 6379, address.hostname or "127.0.0.1", address.path)


def assert_whole(seen: list[ServerSentEvent], chunks: Sequence[object]) -> None:
    """These chunks, each once, in order, and `done`; by a single attempt."""
    assert [event.id for event in seen] == [str(seq) for seq in range(len(chunks) + 1)]
    assert data(seen) == list(chunks)
    assert seen[-1].event == "done"


async def assert_a_task_runs(client: httpx.AsyncClient) -> None:
    """From its start to its end."""
    async with asyncio.timeout(DEADLINE_S):
        assert await follow(client, await start(client, "count", to=3)) == ([1, 2, 3], "done", {"chunks": 3})


async def assert_a_cancel_is_heard(client: httpx.AsyncClient, note: Path) -> None:
    """The worker stops a silent function that is cancelled, and its clean-up runs."""
    task_id = await start(client, "silent", note=str(note))
    await events(client, task_id, most=1)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    await appeared(note)


def assert_never_restarted(worker: Process) -> None:
    """It is the process it was."""
    assert worker.output.count("Started process worker-0") == 1
    assert worker.output.count("functions loaded") == 1
