"""Below a path prefix, every address that an answer carries has the prefix, whether the proxy keeps or strips it."""

from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

import httpx
import pytest

from tests.support.client import follow
from tests.support.processes import Api, Process, api_process
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio

BODY = {"to": 2}
SSE = {"Accept": "text/event-stream"}


# Root paths, each with what the proxy does. A prefix that is a path of the API must be kept: docs/deploy.md says so.
PROXIES: Final = [(root_path, how) for root_path in ("/tr", "/tr/", "/a/b") for how in ("keeps it", "strips it")] + [
    ("/tasks", "keeps it")
]


class Prefixed(NamedTuple):
    """An API below a prefix, and whether the proxy keeps it."""

    url: str
    prefix: str
    kept: bool


@pytest.fixture(scope="module", params=PROXIES, ids=" ".join)
def prefixed(request: pytest.FixtureRequest, redis_url: str, worker: Process) -> Iterator[Prefixed]:
    """An API that is told this root path, by its option or by its variable."""
    root_path, how = request.param
    told = ([], {"UVICORN_ROOT_PATH": root_path}) if how == "strips it" else (["--root-path", root_path], {})
    with api_process(redis_url, *told[0], **told[1]) as api:
        yield Prefixed(api.url, root_path.rstrip("/"), how == "keeps it")


@pytest.fixture
async def client(prefixed: Prefixed) -> AsyncIterator[httpx.AsyncClient]:
    """A client behind the proxy: the API sees its paths as the proxy leaves them."""
    base_url = prefixed.url + (prefixed.prefix if prefixed.kept else "")
    async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as client:
        yield client


async def test_addresses_have_the_prefix(prefixed: Prefixed, client: httpx.AsyncClient) -> None:
    """In the body and in the headers, of an answer and of a stream; and they are right as they stand."""
    prefix = prefixed.prefix
    answer = await client.post("/functions/count/tasks", json=BODY)
    task = answer.json()
    place = f"{prefix}/tasks/{task['task_id']}"
    assert [task[name] for name in ("status_url", "stream_url", "chunks_url")] == [
        place,
        f"{place}/stream",
        f"{place}/chunks",
    ]
    assert answer.headers["location"] == place
    assert await follow(client, task["task_id"]) == ([1, 2], "done", {"chunks": 2})
    for address in (place, f"{place}/stream", f"{place}/chunks"):
        assert (await client.get(f"{prefixed.url}{address}")).status_code == 200

    stream = await client.post("/functions/count/tasks", json=BODY, headers=SSE)
    addresses = [stream.headers[name] for name in ("location", "content-location", "link") if name in stream.headers]
    assert all(address.lstrip("<").startswith(f"{prefix}/tasks/") for address in addresses)
    assert (await client.get(prefixed.url + stream.headers["content-location"])).text.endswith('data: {"chunks":2}\n\n')


@pytest.mark.parametrize("path", ["/schema", "/schema/openapi.json"])
async def test_the_document_has_the_prefix(prefixed: Prefixed, client: httpx.AsyncClient, path: str) -> None:
    """Once, as its server; and it is the document with the announced functions."""
    document = (await client.get(path)).json()
    assert document["servers"] == [{"url": prefixed.prefix}]
    assert "/functions/count/tasks" in document["paths"]


async def test_a_name_that_is_the_prefix(prefixed: Prefixed, client: httpx.AsyncClient) -> None:
    """Only the beginning of a path can be the prefix."""
    for name in ("tr", "a", "b", "tr.x"):
        answer = await client.get(f"/functions/{name}")
        assert answer.json()["type"] == "urn:tailrace:problem:unknown-function", name
        assert f"'{name}'" in answer.json()["detail"]
    answer = await client.get(f"{prefixed.prefix}x/tasks")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailrace:problem:not-found")


async def test_without_a_prefix(api: Api) -> None:
    """The server of the document is the root."""
    async with httpx.AsyncClient(base_url=api.url) as client:
        assert (await client.get("/schema")).json()["servers"] == [{"url": "/"}]
