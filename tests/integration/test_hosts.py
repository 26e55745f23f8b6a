"""The API answers for its own hosts only: a page of another site whose name leads here can start and read nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.api.hosts import host_of, is_allowed
from tests.support.client import client_of, follow
from tests.support.processes import Api, Process, api_process
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio

BODY: Final = b'{"to":1}'
START: Final = "/functions/count/tasks"
UNKNOWN: Final = "0" * 32

# Calls of every kind: what changes something, and what reads.
CALLS: Final = [
    ("POST", START),
    ("POST", "/tasks"),
    ("DELETE", f"/tasks/{UNKNOWN}"),
    ("PUT", "/functions/count/paused"),
    ("POST", f"/tasks/{UNKNOWN}/tickets"),
    ("GET", "/tasks"),
    ("GET", f"/tasks/{UNKNOWN}"),
    ("GET", f"/tasks/{UNKNOWN}/stream"),
    ("GET", f"/tasks/{UNKNOWN}/chunks"),
    ("GET", "/functions"),
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
]

OWN: Final = [
    "localhost",
    "LOCALHOST:8000",
    "127.0.0.1:1",
    "[::1]",
    "[::1]:8000",
    "tailrace.localhost",
    "a.b.localhost:80",
]
LISTED: Final = ["tailrace.example", "Tailrace.Example:8443", "a.wild.example", "10.0.0.7:8000", "named.example:8443"]
FOREIGN: Final = [
    "evil.example:8000",
    "",
    "localhost.evil.example",
    "evil-localhost",
    "localhost:8000.evil.example",
    "localhost@evil.example",
    "127.0.0.1.evil.example",
    "[::1",
    "::1",
    "localhost:",
    "localhost:port",
    "localhost:70000",
    "*.localhost",
    ".localhost",
    "localhost,evil.example",
    "wild.example",
    "named.example",
    "named.example:8000",
    "10.0.0.8",
]


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process) -> Iterator[Api]:
    """An API that lists hosts of its own."""
    listed = "tailrace.example, *.wild.example 10.0.0.7,named.example:8443"
    with api_process(redis_url, TAILRACE_ALLOWED_HOSTS=listed) as one:
        yield one


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with client_of(api) as client:
        yield client


async def status(api: Api, target: str, *headers: bytes, method: str = "GET") -> tuple[int, bytes]:
    """The status and the body of the answer to a request with exactly these headers."""
    where = urlsplit(api.url)
    length = b"Content-Length: %d" % (len(BODY) if method == "POST" else 0)
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Connection: close", length, *headers, b"", b""]
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            writer.write(b"\r\n".join(lines) + (BODY if method == "POST" else b""))
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    return int(head.split()[1]), body


@pytest.mark.parametrize("host", OWN + LISTED)
async def test_a_host_of_ones_own(client: httpx.AsyncClient, host: str) -> None:
    """This machine's names, with any port, and those that the operator lists: a page of the API's own may do all."""
    origin = {"Host": host, "Origin": f"http://{host.lower().removesuffix(':80')}", "Sec-Fetch-Site": "same-origin"}
    answer = await client.post(START, content=BODY, headers=origin)
    assert answer.status_code == 202, answer.text
    assert (await client.get(answer.json()["stream_url"], headers={"Host": host})).text.endswith(
        'data: {"chunks":1}\n\n'
    )


@pytest.mark.parametrize("host", FOREIGN)
async def test_a_host_that_is_foreign(api: Api, host: str) -> None:
    """403 that names the host and the setting, whether the request starts, changes or reads, for a page that a browser
    takes for the API's own.
    """
    headers = [f"Host: {host}", f"Origin: http://{host}", "Sec-Fetch-Site: same-origin"]
    for method, path in CALLS:
        code, body = await status(api, path, *(header.encode() for header in headers), method=method)
        assert (code, b"urn:tailrace:problem:host-not-allowed" in body) == (403, True), (method, path, body)
        assert b"TAILRACE_ALLOWED_HOSTS" in body
        assert repr(host).encode() in body


async def test_no_other_header_names_the_host(api: Api) -> None:
    """A client may write any X-Forwarded-Host: it neither allows a foreign host nor forbids an own one."""
    for name in (b"X-Forwarded-Host", b"Forwarded", b"X-Host"):
        given = name + b": " + (b"host=" if name == b"Forwarded" else b"")
        assert (await status(api, "/tasks", b"Host: evil.example", given + b"localhost"))[0] == 403
        assert (await status(api, "/tasks", b"Host: localhost", given + b"evil.example"))[0] == 200


async def test_a_target_with_a_host(api: Api) -> None:
    """The header Host counts, not the host of an absolute request target, which no browser sends to a server."""
    assert (await status(api, "http://localhost/tasks", b"Host: evil.example"))[0] == 403
    assert (await status(api, "http://evil.example/tasks", b"Host: localhost"))[0] == 200


async def test_two_hosts(api: Api) -> None:
    """Of two hosts neither is preferred, wherever the own one stands."""
    own, foreign = b"Host: localhost", b"Host: evil.example"
    for hosts in ((own, foreign), (foreign, own), (foreign, foreign)):
        assert (await status(api, "/tasks", *hosts))[0] in (400, 403)


@pytest.mark.parametrize("host", ["10.1.2.3:8000", "evil.example", "pod-7.tailrace.svc"])
async def test_probes_may_ask_by_any_host(client: httpx.AsyncClient, host: str) -> None:
    """Kubernetes asks by the pod's address. Health names nothing private, so all may know it."""
    for path in ("/health/live", "/health/ready"):
        assert (await client.get(path, headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "origins",
    [
        ["http://["],
        ["http://[::1"],
        ["http://localhost:x"],
        ["localhost"],
        ["//localhost"],
        ["ftp://localhost"],
        ["http://localhost/"],
        ["http://user@localhost"],
        ["http://localhost:8000"],
        ["http://localhost", "https://evil.example"],
        ["https://evil.example", "http://localhost"],
        ["https://evil.example", "https://evil.example"],
        ["null"],
        [""],
        ["\xff"],
    ],
)
async def test_an_origin_that_is_not_ours(api: Api, origins: list[str]) -> None:
    """403, or 400 for two that differ: a malformed Origin is no fault of the server."""
    headers = [f"Origin: {origin}".encode("latin-1") for origin in origins]
    code, body = await status(api, START, b"Host: localhost", *headers, method="POST")
    assert code == (400 if len(set(origins)) > 1 else 403), body
    assert (b"repeated-header" if code == 400 else b"foreign-origin") in body


@pytest.mark.parametrize("more", [[], [b"Sec-Fetch-Site: cross-site"]], ids=["by its origin", "by the browser"])
async def test_an_origin_that_an_operator_may_list(api: Api, more: list[bytes]) -> None:
    """The answer names the setting that lets pages of another origin in."""
    code, body = await status(api, START, b"Host: localhost", b"Origin: https://app.example", *more, method="POST")
    assert (code, b"TAILRACE_CORS_ORIGINS" in body) == (403, True), body


async def test_an_origin_that_hides_itself_has_no_host(api: Api) -> None:
    """`Origin: null` is no host, nor is an empty Host."""
    assert (await status(api, START, b"Host:", b"Origin: null", method="POST"))[0] == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("tailrace.example", "https://tailrace.example"),
        ("tailrace.example:443", "https://tailrace.example"),
        ("localhost:80", "http://localhost"),
        ("localhost:8000", "http://localhost:8000"),
    ],
)
async def test_an_origin_of_ones_own(client: httpx.AsyncClient, host: str, origin: str) -> None:
    """A proxy may write down the port that a browser leaves out."""
    answer = await client.post(START, content=BODY, headers={"Host": host, "Origin": origin})
    assert answer.status_code == 202, answer.text
    assert (await follow(client, answer.json()["task_id"]))[1] == "done"


# Values that HTTP carries: without control characters, and without spaces around them.
PARTS: Final = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "evil",
    ".",
    ":",
    "8000",
    "@",
    "/",
    "[",
    "]",
    "*",
    ",",
    "http://",
    " ",
    "%00",
]
VALUES: Final = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=6).map("".join),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=30),
).map(str.strip)


async def both(api: Api, host: str, origins: list[str]) -> None:
    """Ask with this host and these origins, and check that nothing foreign is accepted and nothing is a fault."""
    own = is_allowed(host_of(host), ())
    headers = [f"Host: {host}".encode("latin-1"), *(f"Origin: {origin}".encode("latin-1") for origin in origins)]
    read, _ = await status(api, "/tasks", headers[0])
    assert read in ((200,) if own else (400, 403)), host
    written, body = await status(api, "/functions/nope/tasks", *headers, method="POST")
    page = own and all(origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower()) for origin in origins)
    assert written in ((404,) if page else (400, 403)), (host, origins, body)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.sampled_from(OWN), VALUES), st.lists(VALUES, max_size=2), st.booleans())
def test_any_host_and_any_origin(api: Api, host: str, origins: list[str], of_its_own: bool) -> None:
    """No value is a fault of the server, and only a page of an allowed host is let through."""
    if of_its_own:
        origins = [f"http://{host}"]
    asyncio.run(both(api, host, origins))
