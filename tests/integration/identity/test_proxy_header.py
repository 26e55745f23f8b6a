"""A trusted proxy names the caller in a header. No other client can, in whatever way."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from services.api.identity.proxy_header import MAX_LENGTH
from tests.support.connections import connection
from tests.support.key_files import KeyFile, bearer
from tests.support.processes import GUARD, Api, Process, api_process

pytestmark = pytest.mark.anyio

HEADER: Final = "X-Forwarded-User"

# Of the two addresses from which the tests ask, that of the proxy.
PROXY: Final = "127.0.0.1"
CLIENT: Final = "127.0.0.2"

SETTINGS: Final = {"TAILRACE_AUTH": "proxy", "TAILRACE_TRUSTED_PROXIES": PROXY, "TAILRACE_IDENTITY_HEADER": HEADER}
COMMAND: Final = [sys.executable, "-m", "uvicorn", "--factory", "services.api.app:create_app"]

START: Final = {"function": "count", "input": {"to": 1}}


@pytest.fixture(scope="module")
def ada(key_file: KeyFile) -> str:
    """The API key of the owner `lovelace`."""
    return key_file.add("lovelace")


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process, key_file: KeyFile, ada: str) -> Iterator[Api]:
    """An API that takes keys, and what a proxy says. Its server believes every `X-Forwarded-For`."""
    settings = SETTINGS | {"TAILRACE_AUTH": "keys,proxy", "TAILRACE_KEYS_FILE": str(key_file.path)}
    with api_process(redis_url, "--forwarded-allow-ips", "*", **settings) as one:
        yield one


@pytest.fixture
async def proxy(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client at the proxy's address."""
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as one:
        yield one


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client at another address."""
    transport = httpx.AsyncHTTPTransport(local_address=CLIENT)
    async with httpx.AsyncClient(base_url=api.url, timeout=30, transport=transport) as one:
        yield one


async def tasks_of(client: httpx.AsyncClient, headers: dict[str, str]) -> set[str]:
    """The ids of the caller's tasks."""
    listed = await client.get("/tasks", headers=headers)
    assert listed.status_code == 200, listed.text
    return {task["task_id"] for task in listed.json()["tasks"]}


async def test_the_caller_that_a_proxy_names(proxy: httpx.AsyncClient, ada: str) -> None:
    """It has its own tasks: another caller has not, nor has the owner of a key with the same name."""
    started = await proxy.post("/tasks", json=START, headers={HEADER: "lovelace"})
    assert started.status_code == 202, started.text
    task_id = started.json()["task_id"]
    assert await tasks_of(proxy, {HEADER: "lovelace"}) == {task_id}
    assert await tasks_of(proxy, {HEADER: "eve"}) == set()
    assert await tasks_of(proxy, bearer(ada)) == set()
    assert (await proxy.get(f"/tasks/{task_id}/stream", headers={HEADER: "eve"})).status_code == 404
    followed = await proxy.get(f"/tasks/{task_id}/stream", headers={HEADER: "lovelace", "X-Forwarded-For": CLIENT})
    assert "event: done" in followed.text


async def test_it_is_no_admin(proxy: httpx.AsyncClient) -> None:
    """A proxy names a caller with the usual scopes, `root` too."""
    refused = await proxy.put("/functions/count/paused", headers={HEADER: "root"})
    assert (refused.status_code, refused.json()["scope"]) == (403, "admin")


async def test_a_client_that_names_itself(client: httpx.AsyncClient, ada: str) -> None:
    """It is as one without a credential, whatever it says about its way; with one, it is the caller of that."""
    for forged in (
        {},
        {"X-Forwarded-For": PROXY},
        {"X-Forwarded-For": f"{PROXY}, {PROXY}"},
        {"Forwarded": f"for={PROXY}"},
        {"X-Real-IP": PROXY},
    ):
        refused = await client.get("/tasks", headers={HEADER: "ada", **forged})
        assert (refused.status_code, refused.json()["type"]) == (401, "urn:tailrace:problem:no-credential")
        assert refused.headers["www-authenticate"] == 'Bearer realm="tailrace"'
        assert await tasks_of(client, {HEADER: "eve", **forged, **bearer(ada)}) == set()


BAD: Final[dict[str, list[tuple[str, str]]]] = {
    "nobody": [],
    "another spelling": [("X_Forwarded_User", "ada-lovelace")],
    "another spelling of a part": [("X-Forwarded_User", "ada-lovelace")],
    "two names": [(HEADER, "ada-lovelace"), (HEADER, "eve-the-evil")],
    "the same name twice": [(HEADER, "ada-lovelace"), (HEADER, "ada-lovelace")],
    "an empty one and a name": [(HEADER, ""), (HEADER, "ada-lovelace")],
    "empty": [(HEADER, "")],
    "long": [(HEADER, "a" * (MAX_LENGTH + 1))],
    "huge": [(HEADER, "a" * 20_000)],
    "a password": [(HEADER, "ada-lovelace"), ("Authorization", "Basic YWRhOnNlY3JldDEyMzQ1")],
    "a token": [(HEADER, "ada-lovelace"), ("Authorization", "Bearer abcdefghijklmnop")],
    "an empty key": [(HEADER, "ada-lovelace"), ("X-API-Key", "")],
}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
async def test_a_proxy_that_names_nobody(proxy: httpx.AsyncClient, headers: list[tuple[str, str]]) -> None:
    """401 with a challenge and a problem that says what is wrong, and repeats no part of it."""
    answer = await proxy.get("/tasks", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="tailrace"')
    named = any(name == HEADER for name, _ in headers)
    kind = "invalid-credential" if named else "no-credential"
    assert answer.json()["type"] == f"urn:tailrace:problem:{kind}"
    assert len(answer.json()["detail"]) > 20
    for _, value in headers:
        assert len(value) < 3 or value not in answer.text


async def test_a_key_beside_the_name(proxy: httpx.AsyncClient, ada: str) -> None:
    """A valid key does not make up for the doubt which caller it is."""
    refused = await proxy.get("/tasks", headers={HEADER: "ada", "X-API-Key": ada})
    assert (refused.status_code, ada in refused.text) == (401, False)
    assert "several credentials" in refused.json()["detail"]


async def test_names_of_any_kind(proxy: httpx.AsyncClient) -> None:
    """A name is taken as it is: long, with spaces, commas or other letters; as another case, it is another's."""
    names = ["a" * MAX_LENGTH, "cn=Ada, ou=Maths, o=Ex ample", "Adä".encode().decode("latin-1"), "ada2", "ADA2"]
    for name in names:
        headers = httpx.Headers({HEADER: name}, encoding="latin-1")
        assert (await proxy.post("/tasks", json=START, headers=headers)).status_code == 202
        listed = await proxy.get("/tasks", headers=headers)
        assert len(listed.json()["tasks"]) == 1


async def test_a_name_in_a_trailer(api: Api) -> None:
    """A proxy passes trailers on as they are. No caller is named there."""
    head = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    async with connection(api.url) as one:
        await one.send(head + b"Trailer: X-Forwarded-User\r\n\r\n2\r\n{}\r\n0\r\nX-Forwarded-User: ada\r\n\r\n")
        answer = await one.until_end()
    assert b" 401 " in answer.partition(b"\r\n")[0]
    assert b"no-credential" in answer


async def test_requests_of_one_connection(proxy: httpx.AsyncClient) -> None:
    """A proxy sends the requests of all callers over the same connections: each names its own."""
    answers = [await proxy.get("/tasks", headers=headers) for headers in ({HEADER: "ada"}, {}, {HEADER: "eve"})]
    assert [answer.status_code for answer in answers] == [200, 401, 200]


async def test_a_foreign_host(proxy: httpx.AsyncClient, guarded: Api) -> None:
    """A proxy may know a caller by what its browser sends by itself, so a page must not come by a name of its own. With
    keys alone it may: it has none.
    """
    given = {"Host": "evil.example", HEADER: "ada"}
    refused = await proxy.get("/tasks", headers=given)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tailrace:problem:host-not-allowed")
    async with httpx.AsyncClient(base_url=guarded.url) as client:
        assert (await client.get("/tasks", headers=given)).status_code == 401


def test_what_a_proxy_alone_tells(redis_url: str) -> None:
    """Where only a proxy names callers, neither a refusal nor the document tells a client to send a key."""
    with api_process(redis_url, **SETTINGS) as api, httpx.Client(base_url=api.url, timeout=30) as client:
        refused = client.get("/tasks").json()
        assert refused["detail"] == "Ask by way of the proxy that names the callers of this API."
        document = client.get("/schema", headers={HEADER: "ada"}).json()
        assert "securitySchemes" not in document["components"]
        assert "401" in document["paths"]["/tasks"]["get"]["responses"]


@pytest.mark.parametrize(("trusted", "status"), [("unix:", 200), (PROXY, 401)])
async def test_a_proxy_at_a_unix_socket(redis_url: str, tmp_path: Path, trusted: str, status: int) -> None:
    """It is trusted if the setting says so. All programs that may open the socket are the proxy."""
    path = tmp_path / "api.sock"
    env = SETTINGS | {"REDIS_URL": redis_url, "TAILRACE_TRUSTED_PROXIES": trusted}
    process = Process([*COMMAND, "--http", GUARD, "--uds", str(path)], env)
    try:
        process.wait_for("running on unix socket")
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(base_url="http://localhost", transport=transport) as client:
            assert (await client.get("/tasks", headers={HEADER: "ada"})).status_code == status
    finally:
        process.kill()


async def test_a_server_that_does_not_know_the_peer(redis_url: str) -> None:
    """Without the guard, the scope may have the address that a client claims: no header counts, and the log says so."""
    process = Process([*COMMAND, "--port", "0"], SETTINGS | {"REDIS_URL": redis_url})
    try:
        url = process.wait_for(r"running on (http://[\d.:]+)").group(1)
        process.wait_for("no proxy can name a caller")
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/tasks", headers={HEADER: "ada"})).status_code == 401
    finally:
        process.kill()


@pytest.mark.parametrize("missing", ["TAILRACE_TRUSTED_PROXIES", "TAILRACE_IDENTITY_HEADER"])
def test_half_a_decision(missing: str) -> None:
    """The API does not start without both settings, and names the one that is missing."""
    process = Process([*COMMAND, "--port", "0"], {name: value for name, value in SETTINGS.items() if name != missing})
    assert process.wait() != 0
    assert f"{missing} is not set: with TAILRACE_AUTH=proxy it should" in process.output
