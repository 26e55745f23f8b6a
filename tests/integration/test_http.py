"""The API speaks HTTP as its standards have it: methods, paths, headers, and more than a request on a connection."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import data, follow, start, until_ready
from tests.support.connections import connection, refused, statuses
from tests.support.files import open_gate
from tests.support.processes import Api, Process, api_process
from tests.support.readers import Reader, heard, unheard
from tests.support.sockets import accepted
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

UNKNOWN: Final = "0123456789abcdef0123456789abcdef"

SSE: Final = {"accept": "text/event-stream"}
NDJSON: Final = {"accept": "application/x-ndjson"}

POST: Final = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\n"
LIVE: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

# Each path, with its methods.
METHODS: Final = {
    "/tasks": "GET, HEAD, OPTIONS, POST",
    "/tasks/{id}": "DELETE, GET, HEAD, OPTIONS",
    "/tasks/{id}/stream": "GET, HEAD, OPTIONS",
    "/tasks/{id}/chunks": "GET, HEAD, OPTIONS",
    "/tasks/{id}/tickets": "OPTIONS, POST",
    "/functions": "GET, HEAD, OPTIONS",
    "/functions/count": "GET, HEAD, OPTIONS",
    "/functions/count/tasks": "OPTIONS, POST",
    "/functions/count/paused": "DELETE, OPTIONS, PUT",
    "/health/live": "GET, HEAD, OPTIONS",
    "/health/ready": "GET, HEAD, OPTIONS",
    "/schema": "GET, HEAD, OPTIONS",
    "/schema/openapi.json": "GET, HEAD, OPTIONS",
}
READABLE: Final = [path for path, methods in METHODS.items() if "GET" in methods]


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process) -> Iterator[Api]:
    """An API for this file alone."""
    with api_process(redis_url) as one:
        yield one


@pytest.fixture
async def ended(client: httpx.AsyncClient, redis: Redis) -> str:
    """A task that has ended."""
    task_id = await start(client, "count", to=2)
    await follow(client, task_id)
    return task_id


class Live:
    """A task that has said one thing, and says another when it is let go on."""

    def __init__(self, client: httpx.AsyncClient, task_id: str, gate: Path) -> None:
        self._client, self._gate, self.task_id = client, gate, task_id
        self.request = b"GET /tasks/%b/stream HTTP/1.1\r\nHost: localhost\r\n\r\n" % task_id.encode()

    async def go_on(self) -> None:
        """Let it say the other thing."""
        await asyncio.to_thread(open_gate, self._gate)

    async def end(self) -> None:
        """End it."""
        assert (await self._client.delete(f"/tasks/{self.task_id}")).status_code in (200, 202)


@pytest.fixture
async def live(client: httpx.AsyncClient, redis: Redis, tmp_path: Path) -> AsyncIterator[Live]:
    """A task that runs during the test."""
    task_id = await start(client, "gated", gate=str(tmp_path / "gate"), note=str(tmp_path / "note"))
    live = Live(client, task_id, tmp_path / "gate")
    yield live
    await live.end()


# Requests, each with the status of its answer: every kind of answer that there is.
ANSWERS: Final = [
    ("GET", "/tasks", {}, 200),
    ("POST", "/functions/count/tasks", {}, 202),
    ("POST", "/functions/count/tasks", SSE, 200),
    ("GET", "/tasks/{id}", {}, 200),
    ("GET", "/tasks/{id}/stream", {}, 200),
    ("GET", "/tasks/{id}/stream", NDJSON, 200),
    ("GET", "/tasks/{id}/stream?after=tail", {}, 204),
    ("HEAD", "/tasks/{id}/stream", {}, 200),
    ("GET", "/tasks/{id}/chunks", {}, 200),
    ("POST", "/tasks/{id}/tickets", {}, 201),
    ("GET", "/functions", {}, 200),
    ("GET", "/health/live", {}, 200),
    ("GET", "/health/ready", {}, 200),
    ("GET", "/schema", {}, 200),
    ("GET", "/nothing", {}, 404),
    ("GET", "/schema/nothing", {}, 404),
    ("GET", f"/tasks/{UNKNOWN}/stream", {}, 404),
    ("GET", "/tasks?limit=x", {}, 400),
    ("PATCH", "/tasks", {}, 405),
    ("POST", "/functions/count/tasks", {"origin": "http://elsewhere.example"}, 403),
    ("OPTIONS", "/tasks", {}, 204),
    ("OPTIONS", "/schema", {}, 204),
    ("GET", "/" + "x" * 40_000, {}, 414),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), ANSWERS)
async def test_the_headers_of_every_answer(
    api: Api, ended: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """No cache answers with it unasked, no browser guesses its type, embeds it elsewhere or tells its address; it names
    no server.
    """
    async with httpx.AsyncClient(base_url=api.url) as client:
        body = {"to": 1} if method == "POST" else None
        answer = await client.request(method, path.replace("{id}", ended), json=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("cross-origin-resource-policy") == ["same-origin"]
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]
    # Clients may keep these, and ask each time whether they have changed.
    kept = "private, no-cache" if (path, status) in (("/functions", 200), ("/schema", 200)) else "no-store"
    assert answer.headers.get_list("cache-control") == [kept]
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", READABLE)
async def test_head(api: Api, ended: str, path: str) -> None:
    """HEAD is answered as GET is, without the body; and the connection can be used again."""
    path = path.replace("{id}", ended)
    async with httpx.AsyncClient(base_url=api.url) as client:
        whole = await client.get(path)
    async with connection(api.url) as raw:
        await raw.send(b"HEAD %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode() + LIVE)
        await raw.until(b'{"status":"ok"}')
    head, _, rest = raw.received.partition(b"\r\n\r\n")
    assert (whole.status_code, statuses(raw.received)) == (200, [200, 200])
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: " + whole.headers["content-type"].encode() in head
    if "content-length" in whole.headers:
        assert b"content-length: " + whole.headers["content-length"].encode() in head


async def test_the_head_of_a_live_stream(api: Api, live: Live, redis: Redis) -> None:
    """It is answered at once, and nothing is read or followed for it."""
    await unheard(redis, live.task_id)
    async with httpx.AsyncClient(base_url=api.url) as client:
        for fmt in (SSE, NDJSON):
            answer = await client.head(f"/tasks/{live.task_id}/stream", headers=fmt)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(fmt["accept"])
        assert (await client.head(f"/tasks/{UNKNOWN}/stream")).status_code == 404
    assert not await heard(redis, live.task_id)


async def test_the_head_of_an_api_that_is_not_ready() -> None:
    """A load balancer that asks by HEAD gets the status that GET has."""
    with api_process("redis://127.0.0.1:1/0") as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
            await until_ready(client, 503)
            assert (await client.head("/health/ready")).status_code == 503


@pytest.mark.parametrize(("path", "methods"), METHODS.items())
async def test_the_methods_of_a_path(api: Api, ended: str, path: str, methods: str) -> None:
    """OPTIONS, and the answer to another method, name them all."""
    path = path.replace("{id}", ended)
    async with httpx.AsyncClient(base_url=api.url) as client:
        for method, status in (("OPTIONS", 204), ("PATCH", 405), ("TRACE", 405)):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (status, methods)
        if "GET" not in methods:
            assert (await client.head(path)).status_code == 405


# Values of `Accept`, and the media type of the stream.
ACCEPTED: Final = {
    "application/x-ndjson;q=0": "text/event-stream",
    "application/x-ndjson; q=0.000, text/event-stream": "text/event-stream",
    "application/x-ndjson;q=0;x=y": "text/event-stream",
    "application/x-ndjson;q=0.001": "application/x-ndjson",
    "application/x-ndjson;q=0.0, text/event-stream;q=0": "text/event-stream",
    "text/event-stream;q=0, application/x-ndjson": "application/x-ndjson",
}


@pytest.mark.parametrize(("accept", "media_type"), ACCEPTED.items())
async def test_a_format_that_is_excluded(api: Api, ended: str, accept: str, media_type: str) -> None:
    """A format with `q=0` is not sent."""
    async with httpx.AsyncClient(base_url=api.url) as client:
        answer = await client.get(f"/tasks/{ended}/stream", headers={"accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == media_type


async def test_json_that_is_excluded(api: Api, redis: Redis) -> None:
    """A POST whose client does not accept JSON is answered with the stream that it does accept."""
    async with httpx.AsyncClient(base_url=api.url) as client:
        accept = {"accept": "application/json;q=0, text/event-stream"}
        answer = await client.post("/functions/count/tasks", json={"to": 1}, headers=accept)
    assert answer.headers["content-type"].startswith("text/event-stream")


# Other spellings of paths that there are.
SPELLINGS: Final = [
    "//tasks",
    "/tasks/",
    "/tasks//",
    "/%74asks",
    "/task%73",
    "/tasks%2F",
    "/tasks/{id}/",
    "/tasks//{id}",
    "/tasks/{id}%2Fchunks",
    "/tasks/{id}%2fchunks",
    "/tasks%2F{id}/stream",
    "/tasks/{id}/%63hunks",
    "/functions/%63ount",
    "/functions/count/",
    "/functions//count",
    "/health//live",
    "/health/%6Cive",
    "/schema/",
    "/schema%2fopenapi.json",
    "/schema/openapi%2Ejson",
]


@pytest.mark.parametrize("prefix", ["", "/tr"])
@pytest.mark.parametrize("kept", [True, False])
async def test_other_spellings_of_a_path(redis_url: str, ended: str, prefix: str, *, kept: bool) -> None:
    """They are not found, so that a proxy's rule for a path holds; whatever prefix the proxy keeps or strips."""
    with api_process(redis_url, "--root-path", prefix) as api:
        before = prefix if kept else ""
        for path in SPELLINGS:
            async with connection(api.url) as raw:
                target = before + path.replace("{id}", ended)
                await raw.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target.encode())
                assert refused(await raw.until_end()) == (404, "not-found"), path
        async with httpx.AsyncClient(base_url=api.url + before) as client:
            for path in READABLE:
                assert (await client.get(path.replace("{id}", ended))).status_code == 200, path


# Requests without one `Host`, and the answer.
HOSTS: Final = {
    "none": (b"GET /health/live HTTP/1.1\r\n\r\n", (400, "missing-header")),
    "two": (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", (400, "repeated-header")),
    "two others": (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n", (400, "repeated-header")),
}


@pytest.mark.parametrize(("request_", "refusal"), HOSTS.values(), ids=HOSTS)
async def test_the_host(api: Api, request_: bytes, refusal: tuple[int, str]) -> None:
    """A request has one (RFC 9112, 3.2). Proxies and the API could take it for requests of different hosts."""
    async with connection(api.url) as raw:
        await raw.send(request_)
        assert refused(await raw.until_end()) == refusal


async def test_no_host_in_the_older_http(api: Api) -> None:
    """Simple load balancers ask by HTTP/1.0, which has no `Host`."""
    async with connection(api.url) as raw:
        await raw.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert statuses(await raw.until_end()) == [200]


# Bytes that are no HTTP.
NO_HTTP: Final = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "text": b"hello\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a blank in the URL": b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length and chunks": POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
async def test_bytes_that_are_no_http(api: Api, sent: bytes) -> None:
    """A problem says so, and the connection is closed."""
    async with connection(api.url) as raw:
        await raw.send(sent)
        assert refused(await raw.until_end()) == (400, "not-http")


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
async def test_bytes_that_are_no_http_behind_a_live_stream(api: Api, live: Live, sent: bytes) -> None:
    """The stream is whole, and the problem stands behind its end."""
    async with connection(api.url) as raw:
        await raw.send(live.request)
        await raw.until(b'data: "before"')
        await raw.send(sent)
        await live.go_on()
        await raw.until(b'data: "after"')
        await live.end()
        received = await raw.until_end()
    stream, end, problem = received.partition(b"\r\n0\r\n\r\n")
    assert b"event: cancelled" in stream
    assert b"not-http" not in stream
    assert end
    assert refused(problem) == (400, "not-http")


async def test_a_request_behind_a_live_stream(api: Api, live: Live) -> None:
    """It is answered when the stream has ended."""
    async with connection(api.url) as raw:
        await raw.send(live.request + LIVE)
        await raw.until(b'data: "before"')
        await live.go_on()
        await raw.until(b'data: "after"')
        await live.end()
        await raw.until(b'{"status":"ok"}')
    assert statuses(raw.received) == [200, 200]


async def test_a_client_that_leaves_a_request_behind_its_stream(redis_url: str, live: Live, redis: Redis) -> None:
    """Its stream ends with it, and leaves no traceback in the log."""
    with api_process(redis_url, TAILRACE_HEARTBEAT_S="0.2") as api:
        async with connection(api.url) as raw:
            await raw.send(live.request + LIVE)
            await raw.until(b'data: "before"')
        await until(lambda: accepted(api.process.pid, api.url) == 0, "the connection is gone")
        await unheard(redis, live.task_id)
        async with httpx.AsyncClient(base_url=api.url) as client:
            other = Reader(client, live.task_id)
            await other.until(1)
            await live.go_on()
            await other.until(1)
            await live.end()
            assert data(await other.until_end()) == ["before", "after"]
    assert "Traceback" not in api.process.output
    assert "[error" not in api.process.output


async def test_a_client_that_leaves_in_the_middle_of_a_body(redis_url: str) -> None:
    """It leaves no traceback in the log."""
    with api_process(redis_url) as api:
        async with connection(api.url) as raw:
            await raw.send(b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
            await until(lambda: accepted(api.process.pid, api.url) == 1)
        await until(lambda: accepted(api.process.pid, api.url) == 0)
        assert api.process.stop() < 0
    assert "Traceback" not in api.process.output


async def test_an_offer_of_another_protocol(api: Api) -> None:
    """It is not taken up, and the request is answered as it is (RFC 9110, 7.8)."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    async with connection(api.url) as raw:
        await raw.send(LIVE[:-2] + upgrade)
        assert statuses(await raw.until_end()) == [200]
    assert raw.received.endswith(b'{"status":"ok"}')
