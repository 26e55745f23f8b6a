"""The configurations of deploy/: behind each proxy a stream comes at once, and survives the death of the only API."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.support.client import data, events, follow, start
from tests.support.documents import blocks
from tests.support.processes import api_process, free_port, worker_process
from tests.support.proxies import PROXIES, Logs, logging_proxy, proxy
from tests.support.settings import NO_HEARTBEAT
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.program]

SSE: Final = {"Accept": "text/event-stream"}
LINES: Final = {"Accept": "application/x-ndjson"}


class Behind(NamedTuple):
    """A proxy, a Redis with a worker, the port at which the proxy expects the API, and the proxy's logs."""

    proxy: str
    redis_url: str
    api_port: str
    logs: Logs


@pytest.fixture(scope="module", params=PROXIES)
def behind(request: pytest.FixtureRequest, own_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """All but the API, which each test starts."""
    port = free_port()
    folder = tmp_path_factory.mktemp("proxy")
    with worker_process(own_url), logging_proxy(request.param, port, folder) as (url, logs):
        yield Behind(url, own_url, str(port), logs)


@pytest.fixture
async def client(behind: Behind) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the proxy."""
    async with httpx.AsyncClient(base_url=behind.proxy, timeout=DEADLINE_S) as client:
        yield client


async def until_ready(client: httpx.AsyncClient, path: str = "/health/ready") -> None:
    """Wait until the proxy and the API behind it answer that all is well."""

    async def answers() -> bool:
        with suppress(httpx.ConnectError):
            return (await client.get(path)).status_code == 200
        return False

    await until(answers)


@pytest.mark.parametrize("accept", [SSE, LINES], ids=["SSE", "NDJSON"])
async def test_nothing_is_held_back(behind: Behind, client: httpx.AsyncClient, accept: dict[str, str]) -> None:
    """The first entry comes though nothing follows it, from GET and from POST."""
    with api_process(behind.redis_url, "--port", behind.api_port, **NO_HEARTBEAT) as api:
        await until_ready(client)
        given: dict[str, Any] = {"to": 2, "every": 3_600}
        task_id = await start(client, "count", **given)
        for method, path, body in (
            ("GET", f"/tasks/{task_id}/stream", None),
            ("POST", "/functions/count/tasks", given),
        ):
            async with client.stream(method, path, json=body, headers=accept) as answer:
                assert answer.headers["content-type"] == accept["Accept"]
                seen = []
                async for line in answer.aiter_lines():
                    seen.append(line)
                    if '"data":1' in line or line == "data: 1":
                        break
                else:
                    pytest.fail(f"the entry never came: {method} {answer.headers} {seen}\n{api.process.output}")
            followed = re.findall("[0-9a-f]{32}", answer.headers.get("content-location", path))
            assert (await client.delete(f"/tasks/{followed[0]}")).is_success


async def test_a_page_of_its_own_site(behind: Behind, client: httpx.AsyncClient) -> None:
    """A browser that sends Origin only may start a task: the proxy passes Host on."""
    with api_process(behind.redis_url, "--port", behind.api_port):
        await until_ready(client)
        task_id = await start(client, "count", {"Origin": behind.proxy}, to=1)
        assert await follow(client, task_id) == ([1], "done", {"chunks": 1})


async def test_an_error_of_the_api_is_its_own(behind: Behind, client: httpx.AsyncClient) -> None:
    """A 503 of the API, whose Redis is away, comes as the problem that it is, with the time to wait."""
    with api_process("redis://127.0.0.1:1/0", "--port", behind.api_port):
        await until_ready(client, "/health/live")
        for path, accept in ((f"/tasks/{uuid4().hex}/stream", LINES), (f"/tasks/{uuid4().hex}", {})):
            answer = await client.get(path, headers=accept)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert (answer.json()["type"], answer.headers["retry-after"]) == ("urn:tailrace:problem:unavailable", "2")


async def test_an_api_that_dies_and_comes_back(behind: Behind, client: httpx.AsyncClient) -> None:
    """An EventSource that comes back meanwhile is told to come back later, and in the end it has every entry once."""
    with api_process(behind.redis_url, "--port", behind.api_port) as api:
        await until_ready(client)
        task_id = await start(client, "count", to=40, every=0.05)
        stream = f"/tasks/{task_id}/stream"
        seen = []
        async with aconnect_sse(client, "GET", stream) as source:
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                async for event in source.aiter_sse():
                    if event.data:
                        seen.append(event)
                    if len(seen) == 3:
                        api.process.kill()
        assert 3 <= len(seen) < 40

    for headers in (SSE | {"Last-Event-ID": seen[-1].id}, {}):
        answer = await client.get(stream, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert (answer.text, answer.headers["cache-control"]) == ("retry: 2000\n", "no-store")
    body = {"to": 1}
    for method, path, accept in (
        ("GET", stream, LINES),
        ("GET", f"/tasks/{task_id}", {}),
        ("POST", "/functions/count/tasks", SSE),
    ):
        answer = await client.request(method, path, headers=accept, json=body if method == "POST" else None)
        assert answer.status_code in (502, 503), (method, path)

    with api_process(behind.redis_url, "--port", behind.api_port):
        await until_ready(client)
        seen += await events(client, task_id, after=seen[-1].id)
    assert [event.id for event in seen] == [str(seq) for seq in range(41)]
    assert (data(seen), seen[-1].event) == (list(range(1, 41)), "done")


async def test_a_proxy_that_knows_its_users(own_url: str, tmp_path: Path) -> None:
    """With what docs/deploy.md adds, nginx asks for a password and names the caller, whatever the client names. A page
    with a password follows its own tasks only.
    """
    shown = {block.language: block.text for block in blocks("docs/deploy.md") if "X-Forwarded-User" in block.text}
    passwords = tmp_path / "htpasswd"
    passwords.write_text("ada:{PLAIN}secret-of-ada\neve:{PLAIN}secret-of-eve\n")
    more = shown["nginx"].replace("/etc/nginx/tailrace.htpasswd", str(passwords))
    port = free_port()
    settings = dict(line.split("=", 1) for line in shown["sh"].splitlines())
    ada, eve = httpx.BasicAuth("ada", "secret-of-ada"), httpx.BasicAuth("eve", "secret-of-eve")
    with (
        worker_process(own_url),
        proxy("nginx.conf", port, tmp_path, more) as url,
        api_process(own_url, "--port", str(port), **settings) as api,
    ):
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, auth=ada) as client:
            await until_ready(client)
            for forged in ({}, {"X-Forwarded-User": "eve"}, {"X_Forwarded_User": "eve"}, {"X-API-Key": "trk_a_b"}):
                task_id = await start(client, "count", forged, to=1)
                assert await follow(client, task_id) == ([1], "done", {"chunks": 1})
                path = f"/tasks/{task_id}/stream"
                assert (await client.get(path, auth=eve, headers={"X-Forwarded-User": "ada"})).status_code == 404
            refused = await client.get("/tasks", auth=httpx.BasicAuth("ada", "wrong"))
            assert (refused.status_code, "nginx" in refused.text) == (401, True)
            assert len((await client.get("/tasks")).json()["tasks"]) == 4
            assert (await client.get("/tasks", auth=eve)).json()["tasks"] == []
            direct = await client.get(f"{api.url}/tasks", headers={"X-Forwarded-For": "10.9.9.9"}, auth=None)
            assert direct.status_code == 401


async def test_no_log_has_a_ticket(behind: Behind, client: httpx.AsyncClient) -> None:
    """The proxy's log has a line for a request, without the query: while the API answers, and while it does not."""

    async def ask(path: str) -> None:
        for query in (f"ticket={ticket}", f"x=1&ticket={ticket}&ticket=2", ticket):
            for headers in (SSE, LINES, {"Referer": f"{behind.proxy}/?ticket={ticket}"}):
                await client.get(f"{path}?{query}", headers=headers)

    ticket, seen = f"v1.{uuid4().hex}", f"/seen/{uuid4().hex}"
    with api_process(behind.redis_url, "--port", behind.api_port):
        await until_ready(client)
        task_id = await start(client, "count", to=1)
        await ask(f"/tasks/{task_id}/stream")
        await ask(f"/tasks/{task_id}/chunks")
    await ask(f"/tasks/{task_id}/stream")
    await ask(f"/tasks/{task_id}/chunks")
    await client.get(f"{seen}?ticket={ticket}")
    await until(lambda: seen in str(behind.logs), "the last request is logged")
    assert str(behind.logs).count(f"/tasks/{task_id}/stream") >= 18
    assert ticket not in str(behind.logs)
