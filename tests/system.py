"""A whole system whose Redis may be anywhere: a worker, an API, and a client of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx
from httpx_sse import ServerSentEvent

from tests.integration.calls import data
from tests.integration.test_redis_down import assert_never_restarted, client_of, until_ready
from tests.processes import Api, Process, api_process, worker_process
from tests.proxy import Proxy

# Nothing heals by waiting: what heals heals because the fault was noticed.
NEVER: Final = {"TAILRACE_HEARTBEAT_S": "3600"}


class System(NamedTuple):
    """What is running."""

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
                # What pytest shows of a test that failed.
                print(running.output, answering.process.output, sep="\n")
        assert_never_restarted(running)
        assert "chore died" not in running.output + answering.process.output


def proxy_of(url: str) -> Proxy:
    """A proxy before the Redis at this URL."""
    address = urlsplit(url)
    return Proxy(address.port or 6379, address.hostname or "127.0.0.1")


def database(url: str, number: int) -> str:
    """The same server's database of this number."""
    return f"{url.rpartition('/')[0]}/{number}"


def assert_whole(seen: list[ServerSentEvent], chunks: Sequence[object]) -> None:
    """These chunks, each once, in order, and `done`; by a single attempt."""
    assert [event.id for event in seen] == [str(seq) for seq in range(len(chunks) + 1)]
    assert data(seen) == list(chunks)
    assert seen[-1].event == "done"
