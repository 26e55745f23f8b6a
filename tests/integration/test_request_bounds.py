"""A client that sends too much, too slowly, or on too many connections is refused, and takes nothing from others."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import client_of, data, start
from tests.support.connections import connection, refused, statuses
from tests.support.files import open_gate
from tests.support.processes import FOR_A_PERSON, Api, Process, api_process
from tests.support.readers import Reader
from tests.support.sockets import accepted, resident
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

MIB: Final = 1_048_576

HEAD: Final = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\n"
LIVE: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n"

# Seconds for a head, and for a body, so that a test can wait for their end.
SHORT: Final = "0.5"


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process) -> Iterator[Api]:
    """An API for this file alone, with the times of a deployed one."""
    with api_process(redis_url) as one:
        yield one


@pytest.fixture(scope="module")
def impatient(redis_url: str, worker: Process) -> Iterator[Api]:
    """An API that waits for a head, and for a body, for half a second."""
    with api_process(redis_url, TAILRACE_HEAD_S=SHORT, TAILRACE_BODY_S=SHORT) as one:
        yield one


@asynccontextmanager
async def beside(api: Api, folder: Path) -> AsyncIterator[Reader]:
    """A stream that is open during the block, and whole in the end."""
    async with client_of(api) as client:
        task_id = await start(client, "gated", gate=str(folder / "gate"), note=str(folder / "note"))
        reader = Reader(client, task_id)
        await reader.until(1)
        yield reader
        assert reader.open
        await asyncio.to_thread(open_gate, folder / "gate")
        await reader.until(1)
        assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
        assert data(await reader.until_end()) == ["before", "after"]


async def a_while(impatient: Api) -> None:
    """Wait until a client that has said nothing is gone: its time is that of a head."""
    async with connection(impatient.url) as silent:
        assert await silent.until_end() == b""


# A flood: how it begins, the piece that is repeated, and the refusal if the client hears it.
FLOODS: Final = {
    "short header lines": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"a:\r\n" * 2**14, (431, "head-too-large")),
    "one header": (b"GET / HTTP/1.1\r\nHost: localhost\r\na: ", b"a" * 2**16, (431, "head-too-large")),
    "the name of a header": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"a" * 2**16, (431, "head-too-large")),
    "the URL": (b"GET /", b"a" * 2**16, (414, "url-too-long")),
    "a body in chunks": (CHUNKED + b"\r\n", b"4000\r\n" + b" " * 0x4000 + b"\r\n", (413, "too-large")),
    "the length of a chunk": (CHUNKED + b"\r\n", b"0" * 2**16, (413, "too-large")),
    "an extension of a chunk": (CHUNKED + b"\r\n1;", b"a" * 2**16, (413, "too-large")),
    "trailers": (CHUNKED + b"\r\n0\r\n", b"a:\r\n" * 2**14, (413, "too-large")),
    "one trailer": (CHUNKED + b"\r\n0\r\na: ", b"a" * 2**16, (413, "too-large")),
    "a long body": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b" " * 2**16, (413, "too-large")),
    "requests": (b"", b"GET /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n" * 800, None),
    "a body where none is read": (LIVE[:-2] + b"Content-Length: 99999999999\r\n\r\n", b" " * 2**16, None),
}


@pytest.mark.parametrize(("beginning", "piece", "refusal"), FLOODS.values(), ids=FLOODS)
async def test_a_flood(
    api: Api, tmp_path: Path, beginning: bytes, piece: bytes, refusal: tuple[int, str] | None
) -> None:
    """64 MiB of anything: the API hangs up after a small part of it, its memory hardly grows, and streams go on."""
    async with beside(api, tmp_path), connection(api.url) as flood:
        before = resident(api.process.pid)
        taken = 0
        await flood.send(beginning)
        with suppress(OSError):
            for part in repeat(piece, 64 * MIB // len(piece)):
                await flood.send(part)
                taken += len(part)
        await flood.until_end()
        # Most of it is on its way, in buffers of the kernel.
        assert taken < 16 * MIB
        assert resident(api.process.pid) - before < 10 * MIB
        if refusal and flood.received:  # a reset may have taken it away
            assert refused(flood.received) == refusal


# Heads that are a little too long, and what says so.
TOO_LONG: Final = {
    "a header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 33_000 + b"\r\n\r\n", (431, "head-too-large")),
    "many headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 1_000 + b"\r\n", (431, "head-too-large")),
    "a header without an end": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 99_000, (431, "head-too-large")),
    "the URL": (b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414, "url-too-long")),
    "the query": (b"GET /tasks?" + b"a" * 99_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414, "url-too-long")),
}


@pytest.mark.parametrize(("request_", "refusal"), TOO_LONG.values(), ids=TOO_LONG)
async def test_a_head_that_is_too_long(api: Api, request_: bytes, refusal: tuple[int, str]) -> None:
    """A problem says which part of it is, and the connection ends; also after an answer on the same connection."""
    async with connection(api.url) as client:
        await client.send(LIVE + request_)
        received = await client.until_end()
    assert statuses(received) == [200, refusal[0]]
    assert refused(received) == refusal


async def test_heads_that_are_long(api: Api) -> None:
    """32 KiB are enough for any client. Each request on a connection may have as many."""
    head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 32_600 + b"\r\n\r\n"
    async with connection(api.url) as client:
        await client.send(head * 5)
        await client.answers(5)
    assert statuses(client.received) == [200] * 5


# Requests that do not go on: what is sent, and the refusal, if one is expected.
UNFINISHED: Final = {
    "nothing": (b"", None),
    "line ends": (b"\r\n\r\n", None),
    "half a head": (b"GET / HTTP/1.1\r\nHo", (408, "too-late")),
    "half a body": (HEAD + b"Content-Length: 9\r\n\r\n{", (408, "too-late")),
    "a body without its last chunk": (CHUNKED + b"\r\n1\r\n{\r\n", (408, "too-late")),
    "no trailer": (CHUNKED + b"\r\n2\r\n{}\r\n0\r\n", (408, "too-late")),
}


@pytest.mark.parametrize(("sent", "refusal"), UNFINISHED.values(), ids=UNFINISHED)
async def test_a_request_that_is_not_finished(
    impatient: Api, tmp_path: Path, sent: bytes, refusal: tuple[int, str] | None
) -> None:
    """Its connection is closed, after a problem if anything was asked for; a stream is not touched."""
    async with beside(impatient, tmp_path), connection(impatient.url) as client:
        await client.send(sent)
        received = await client.until_end()
    assert (refused(received) if received else None) == refusal


async def test_a_client_that_dribbles(impatient: Api) -> None:
    """A head has its time as a whole: a byte now and then does not extend it."""
    async with connection(impatient.url) as client:
        answer = asyncio.create_task(client.until_end())
        await client.send(LIVE[:-2] + b"X: ")
        while not answer.done():
            await client.send(b"a")
            await asyncio.sleep(0.01)
    assert refused(answer.result()) == (408, "too-late")


async def test_a_connection_that_is_kept_alive(impatient: Api) -> None:
    """Each request has its own time, and between two requests none runs."""
    async with connection(impatient.url) as client:
        for times in (1, 2, 3):
            await client.send(LIVE[:20])
            await client.send(LIVE[20:])
            await client.answers(times)
            await a_while(impatient)
    assert statuses(client.received) == [200] * 3


async def test_an_answer_that_takes_long(impatient: Api, tmp_path: Path) -> None:
    """No time runs while the API answers: a stream goes on, and so does one whose client sends half a request more."""
    async with client_of(impatient) as client:
        task_id = await start(client, "gated", gate=str(tmp_path / "gate"), note=str(tmp_path / "note"))
        stream = b"GET /tasks/%b/stream HTTP/1.1\r\nHost: localhost\r\n" % task_id.encode()
        requests = [stream + b"\r\n", stream + b"\r\n" + LIVE[:20], stream + b"Content-Length: 9\r\n\r\n{"]
        async with (
            connection(impatient.url) as alone,
            connection(impatient.url) as before_a_head,
            connection(impatient.url) as with_a_body,
        ):
            all_of_them = (alone, before_a_head, with_a_body)
            for each, request in zip(all_of_them, requests, strict=True):
                await each.send(request)
                await each.until(b'data: "before"')
            await a_while(impatient)
            await a_while(impatient)
            await asyncio.to_thread(open_gate, tmp_path / "gate")
            for each in all_of_them:
                await each.until(b'data: "after"')
            assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
            for each in all_of_them:
                await each.until(b"event: cancelled")
                await each.until(b"\r\n0\r\n\r\n")
            assert statuses(await before_a_head.until_end()) == [200, 408]
            assert statuses(await with_a_body.until_end()) == [200]


async def test_a_body_that_takes_its_time(redis_url: str, worker: Process) -> None:
    """The time of a head does not run for a body: a slow upload is taken."""
    with api_process(redis_url, TAILRACE_HEAD_S=SHORT) as api:
        body = b'{"function": "count", "input": {"to": 1}}'
        async with connection(api.url) as client:
            await client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
            for byte in body[:3]:
                await client.send(bytes([byte]))
                await a_while(api)
            await client.send(body[3:])
            await client.until(b'"chunks_url"')
            assert statuses(client.received) == [202]


async def test_a_body_that_is_too_long(api: Api) -> None:
    """413, whether its length is told or not; a client that sends a little too much can go on with its connection."""
    body = b" " * 64_001
    async with connection(api.url) as client:
        await client.send(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await client.answers(1)
        await client.send(CHUNKED + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        await client.answers(2)
        await client.send(LIVE)
        await client.answers(3)
    assert statuses(client.received) == [413, 413, 200]


async def test_requests_that_wait_for_each_other(api: Api) -> None:
    """A client may send a hundred before the first is answered. One more is refused, when those have their answers."""
    async with connection(api.url) as client:
        await client.send(LIVE * 101)
        await client.answers(101)
        await client.send(LIVE * 200)
        received = await client.until_end()
    assert statuses(received)[:101] == [200] * 101
    *answered, last = statuses(received)[101:]
    assert (answered, last) == ([200] * len(answered), 429)
    assert len(answered) >= 101
    assert refused(received) == (429, "too-many-pipelined")


async def test_trailers(api: Api, redis: Redis) -> None:
    """Are no headers: a key that stands there makes no two requests one task."""
    body = b'{"function": "count", "input": {"to": 1}}'
    request = CHUNKED + b"\r\n%x\r\n%b\r\n0\r\nIdempotency-Key: trailer\r\nHost: y\r\n\r\n" % (len(body), body)
    started = set()
    for _ in range(2):
        async with connection(api.url) as client:
            await client.send(request)
            await client.until(b'"chunks_url"')
            started |= set(re.findall(rb'"task_id":"(\w+)"', client.received))
    assert len(started) == 2


async def test_too_many_connections(redis_url: str, worker: Process, tmp_path: Path) -> None:
    """One too many is told so; those that there are go on. When one has left, there is room again. The log says once
    that the bound is near.
    """
    with api_process(redis_url, TAILRACE_MAX_CONNECTIONS="10") as api:
        async with beside(api, tmp_path), httpx.AsyncClient(base_url=api.url) as late:
            taken = accepted(api.process.pid, api.url)
            silent = [connection(api.url) for _ in range(10 - taken)]
            opened = [await each.__aenter__() for each in silent]
            await until(lambda: accepted(api.process.pid, api.url) == 10)
            for _ in range(3):
                async with connection(api.url) as client:
                    assert refused(await client.until_end()) == (503, "full")
            answer = await late.get("/health/live")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")

            opened[0].leave()
            await until(lambda: accepted(api.process.pid, api.url) == 9)
            assert (await late.get("/health/live")).status_code == 200
            for each in silent:
                await each.__aexit__(None, None, None)
        assert len(re.findall("connection limit near .*most=10", api.process.output)) == 1


async def test_few_files(redis_url: str, worker: Process, tmp_path: Path) -> None:
    """A process that may open few files takes fewer connections, and says so when it starts: no client is reset."""
    uvicorn = "-m uvicorn --factory services.api.app:create_app --http services.api.http.guard:Guard --port 0"
    command = ["/bin/sh", "-c", f"ulimit -n 150; exec {sys.executable} {uvicorn}"]
    process = Process(command, {"REDIS_URL": redis_url, **FOR_A_PERSON})
    try:
        url = process.wait_for(r"running on (http://[\d.:]+)").group(1)
        most = int(process.wait_for(r"warning .*connections limited .*file_limit=150 most=(\d+)").group(1))
        clients = [connection(url) for _ in range(most + 30)]
        opened = [await each.__aenter__() for each in clients]
        first, last = opened[0], opened[most:]
        for each in last:
            assert refused(await each.until_end()) == (503, "full")
        await first.send(LIVE)
        await first.until(b'"ok"}')
        for context in clients:
            await context.__aexit__(None, None, None)
    finally:
        process.kill()


async def test_thousands_of_connections(redis_url: str) -> None:
    """Are room by default, also where a shell gives a process few files: it takes as many as it may."""
    uvicorn = "-m uvicorn --factory services.api.app:create_app --http services.api.http.guard:Guard --port 0"
    process = Process(
        ["/bin/sh", "-c", f"ulimit -S -n 200; exec {sys.executable} {uvicorn}"],
        {"REDIS_URL": redis_url, **FOR_A_PERSON},
    )
    try:
        process.wait_for(r"info .*connections limited .*file_limit=\d{5} most=10000")
    finally:
        process.kill()


def test_a_server_without_bounds(redis_url: str) -> None:
    """It says so when it starts, and what to do about it."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "services.api.app:create_app", "--port", "0"]
    process = Process(command, {"REDIS_URL": redis_url, **FOR_A_PERSON})
    try:
        process.wait_for("running on")
    finally:
        process.kill()
    assert re.search(
        r"warning .*requests not bounded .*uvicorn --http services\.api\.http\.guard:Guard", process.output
    )
