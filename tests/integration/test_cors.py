"""Every answer to a page of a listed origin says that the page may read it; no other answer does."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.client import start
from tests.support.connections import connection
from tests.support.key_files import KeyFile, bearer
from tests.support.processes import Api, Process, api_process

pytestmark = pytest.mark.anyio

ORIGIN: Final = "https://app.example.com"
ORIGINS: Final = f"{ORIGIN}, http://localhost:5173"

PAGE: Final = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
UNKNOWN: Final = "0" * 32

# The methods of each path.
PATHS: Final = {
    "/tasks": "GET, HEAD, OPTIONS, POST",
    f"/tasks/{UNKNOWN}": "DELETE, GET, HEAD, OPTIONS",
    f"/tasks/{UNKNOWN}/stream": "GET, HEAD, OPTIONS",
    f"/tasks/{UNKNOWN}/chunks": "GET, HEAD, OPTIONS",
    "/functions": "GET, HEAD, OPTIONS",
    "/functions/count": "GET, HEAD, OPTIONS",
    "/functions/count/tasks": "OPTIONS, POST",
    "/functions/count/paused": "DELETE, OPTIONS, PUT",
    "/health/live": "GET, HEAD, OPTIONS",
    "/schema": "GET, HEAD, OPTIONS",
}

EXPOSED: Final = "Content-Location, ETag, Link, Location, Retry-After"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    """The file of the keys."""
    folder: Path = tmp_path_factory.mktemp("keys")
    return KeyFile(folder / "keys.json")


@pytest.fixture(scope="module")
def key(file: KeyFile) -> str:
    """The key of a page."""
    return file.add("ada")


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process, file: KeyFile, key: str) -> Iterator[Api]:
    """An API that asks for keys, lists two origins, and takes a few requests of an owner at once."""
    settings = {"TAILRACE_AUTH": "keys", "TAILRACE_KEYS_FILE": str(file.path), "TAILRACE_CORS_ORIGINS": ORIGINS}
    with api_process(redis_url, TAILRACE_BODY_S="0.5", TAILRACE_OWNER_STREAMS="1", **settings) as one:
        yield one


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a credential of its own."""
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as one:
        yield one


def of_cors(answer: httpx.Response) -> dict[str, str]:
    """The headers of an answer that are about origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def is_for(answer: httpx.Response, origin: str = ORIGIN) -> bool:
    """Whether a page of this origin may read this answer, and the headers that are meant for it."""
    allowed = {"access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED}
    return (of_cors(answer), answer.headers["vary"]) == (allowed, "origin")


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight(client: httpx.AsyncClient, path: str) -> None:
    """It names the methods of the path and all headers that a page needs, asks for no credential, and can be kept."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,last-event-id"}
    answer = await client.options(path, headers=PAGE | asked)
    assert (answer.status_code, answer.content, answer.headers["vary"]) == (204, b"", "origin")
    assert of_cors(answer) == {
        "access-control-allow-origin": ORIGIN,
        "access-control-expose-headers": EXPOSED,
        "access-control-allow-methods": PATHS[path],
        "access-control-allow-headers": (
            "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, X-API-Key"
        ),
        "access-control-max-age": "7200",
    }
    refused = await client.options(path, headers=PAGE | asked | {"Origin": "https://evil.example"})
    assert (of_cors(refused), refused.headers["vary"]) == ({}, "origin")


async def test_preflights_do_not_count(redis_url: str) -> None:
    """Preflights of many pages have no owner: they use up no owner's requests, and are not refused."""
    settings = {"TAILRACE_OWNER_REQUESTS": "1", "TAILRACE_OWNER_BURST": "1", "TAILRACE_CORS_ORIGINS": ORIGINS}
    with api_process(redis_url, **settings) as one:
        async with httpx.AsyncClient(base_url=one.url) as client:
            for _ in range(5):
                answer = await client.options("/tasks", headers=PAGE | {"Access-Control-Request-Method": "GET"})
                assert answer.status_code == 204
            assert (await client.get("/tasks")).status_code == 200


async def test_a_page_of_a_listed_origin(client: httpx.AsyncClient, key: str) -> None:
    """Whatever the API answers, a page can read: what it asked for, and why it gets nothing."""
    given = PAGE | bearer(key)
    started = await client.post("/functions/count/tasks", json={"to": 1}, headers=given)
    url = started.json()["stream_url"]
    followed = await client.get(url, headers=given)
    ended = await client.get(url, headers=given | {"Last-Event-ID": "1"})
    posted = await client.post(
        "/functions/count/tasks", json={"to": 1}, headers=given | {"Accept": "text/event-stream"}
    )
    functions = await client.get("/functions", headers=given)
    current = await client.get("/functions", headers=given | {"If-None-Match": functions.headers["etag"]})
    answers = {
        202: started,
        200: followed,
        204: ended,
        304: current,
        400: await client.get("/tasks?limit=0", headers=given),
        401: await client.get("/tasks", headers=PAGE),
        403: await client.put("/functions/count/paused", headers=given),
        404: await client.get("/nowhere", headers=given),
        405: await client.put("/tasks", headers=given),
        413: await client.post("/tasks", content=b"1" * 70_000, headers=given),
        414: await client.get("/tasks?" + "a" * 40_000, headers=given),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    # At 414 the headers have not been read.
    assert [status for status, answer in answers.items() if not is_for(answer)] == [414]
    assert posted.status_code == 200
    assert is_for(posted)
    head = await client.head("/functions", headers=given)
    assert is_for(head)
    health = await client.get("/health/ready", headers=PAGE | {"Origin": "http://localhost:5173"})
    assert is_for(health, "http://localhost:5173")


async def test_a_page_that_has_too_much(client: httpx.AsyncClient, key: str) -> None:
    """It can read 429, and when to come back."""
    given = PAGE | bearer(key)
    task_id = await start(client, "count", given, to=2, every=3_600)
    async with client.stream("GET", f"/tasks/{task_id}/stream", headers=given) as open_one:
        assert is_for(open_one)
        lines = given | {"Accept": "application/x-ndjson"}
        refused = await client.get(f"/tasks/{task_id}/stream", headers=lines)
        assert (refused.status_code, is_for(refused)) == (429, True)
    assert (await client.delete(f"/tasks/{task_id}", headers=given)).status_code == 202


async def test_a_store_that_is_away() -> None:
    """A page can read 503, and when to come back; its EventSource is told to."""
    with api_process("redis://127.0.0.1:1/0", TAILRACE_CORS_ORIGINS=ORIGINS) as one:
        async with httpx.AsyncClient(base_url=one.url, headers=PAGE) as client:
            refused = await client.get(f"/tasks/{UNKNOWN}")
            assert (refused.status_code, is_for(refused)) == (503, True)
            async with client.stream("GET", f"/tasks/{UNKNOWN}/stream") as told:
                assert (told.status_code, is_for(told)) == (200, True)


async def test_what_the_server_refuses(api: Api, key: str) -> None:
    """A page whose request comes too slowly, or is malformed behind its head, can read why."""
    head = f"POST /tasks HTTP/1.1\r\nHost: localhost\r\nOrigin: {ORIGIN}\r\nX-API-Key: {key}\r\nContent-Length: 9\r\n"
    allowed = f"access-control-allow-origin: {ORIGIN}".encode()
    for sent, status in (
        (head + "\r\n{", b" 408 "),
        (head + "X: " + "a" * 40_000 + "\r\n\r\n", b" 431 "),
        (head + "Host: localhost\r\n\r\n", b" 400 "),
    ):
        async with connection(api.url) as one:
            await one.send(sent.encode())
            answer = await one.until_end()
        assert status in answer.partition(b"\r\n")[0], answer
        assert (answer.count(allowed), answer.count(b"vary: origin")) == (1, 1), answer


async def test_headers_of_the_request_before(api: Api) -> None:
    """Bytes that are no request have no origin, although the request before them on the connection had one."""
    async with connection(api.url) as one:
        await one.send(f"GET /health/live HTTP/1.1\r\nHost: localhost\r\nOrigin: {ORIGIN}\r\n\r\n".encode())
        await one.answers(1)
        await one.send(b"\0\r\n\r\n")
        answer = await one.until_end()
    assert b" 400 " in answer
    assert answer.count(b"access-control-allow-origin") == 1


OTHERS: Final = [
    "https://evil.example",
    "https://app.example.com.evil.example",
    "https://evilapp.example.com",
    "https://app.example.com:444",
    "http://app.example.com",
    "https://app.example.com/",
    "https://APP.example.com",
    "https://app.example.com, https://app.example.com",
    "https://app-example.com",
    "http://localhost",
    "null",
    "*",
    "",
    "\xff",
]


@pytest.mark.parametrize("origin", OTHERS)
async def test_a_page_of_another_origin(client: httpx.AsyncClient, key: str, origin: str) -> None:
    """It starts nothing, and its browser lets it read nothing. Caches keep no such answer for a listed origin."""
    given = httpx.Headers(PAGE | bearer(key) | {"Origin": origin}, encoding="latin-1")
    refused = await client.post("/functions/count/tasks", json={"to": 1}, headers=given)
    assert (refused.status_code, of_cors(refused)) == (403, {})
    read = await client.get("/tasks", headers=given)
    assert (read.status_code, of_cors(read), read.headers["vary"]) == (200, {}, "origin")


async def test_two_origins(client: httpx.AsyncClient, key: str) -> None:
    """No browser sends two. A listed one does not stand for the other."""
    for origins in ([ORIGIN, "https://evil.example"], ["https://evil.example", ORIGIN], [ORIGIN, ORIGIN]):
        headers = [*bearer(key).items(), *(("Origin", origin) for origin in origins), ("Sec-Fetch-Site", "cross-site")]
        answer = await client.post("/functions/count/tasks", json={"to": 1}, headers=headers)
        assert answer.status_code in (400, 403)
        assert of_cors(answer) == {}


async def test_a_program(client: httpx.AsyncClient, key: str) -> None:
    """An answer to a request without an origin is for no page, and a cache must not give it to one."""
    answer = await client.get("/functions", headers=bearer(key))
    assert (answer.status_code, of_cors(answer), answer.headers["vary"]) == (200, {}, "origin")


async def test_an_api_that_lists_none(redis_url: str, worker: Process) -> None:
    """It is as before: no header about origins, and no page of another one starts anything."""
    with api_process(redis_url) as one:
        async with httpx.AsyncClient(base_url=one.url, headers=PAGE) as client:
            refused = await client.post("/functions/count/tasks", json={"to": 1})
            preflight = await client.options("/tasks", headers={"Access-Control-Request-Method": "POST"})
            assert (refused.status_code, preflight.status_code) == (403, 204)
            for answer in (refused, preflight, await client.get("/functions")):
                assert (of_cors(answer), "vary" in answer.headers) == ({}, False)


async def test_without_authentication(redis_url: str, worker: Process) -> None:
    """A page of a listed origin may do all, as its operator has said; by the API's own hosts only."""
    with api_process(redis_url, TAILRACE_CORS_ORIGINS=ORIGINS) as one:
        async with httpx.AsyncClient(base_url=one.url, headers=PAGE) as client:
            started = await client.post("/functions/count/tasks", json={"to": 1})
            assert (started.status_code, is_for(started)) == (202, True)
            refused = await client.get("/tasks", headers={"Host": "evil.example"})
            assert (refused.status_code, is_for(refused)) == (403, True)
            assert refused.json()["type"] == "urn:tailrace:problem:host-not-allowed"
