"""The OpenAPI document says what the API answers: every status of every call, with its media type and its schema."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from services.api.http.refusals import Refusal
from services.api.routes.chunks import WAIT
from tests.support.client import client_of, follow, start
from tests.support.connections import connection, refused
from tests.support.openapi import PROBLEM, check, responses
from tests.support.processes import Api, api_process
from tests.support.tasks import end_noted

pytestmark = pytest.mark.anyio

UNKNOWN: Final = "0123456789abcdef0123456789abcdef"

# A browser sends these with a request of another site, and of a site whose name leads here. Both are refused.
FOREIGN: Final = {"Sec-Fetch-Site": "cross-site"}
REBOUND: Final = {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}

SSE: Final = {"Accept": "text/event-stream"}
LINES: Final = {"Accept": "application/x-ndjson"}


class Asked(NamedTuple):
    """A request, and the operation that it is for."""

    method: str
    template: str
    status: int
    path: str = ""
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012  # nothing changes it

    def __str__(self) -> str:
        accepted = self.headers.get("Accept", "")
        return f"{self.method} {self.path or self.template} {self.status} {accepted}".strip()


COUNT: Final = {"function": "count", "input": {"to": 1}}
SHARED: Final = {"Idempotency-Key": "shared by the table"}
TASK: Final = "/tasks/{task_id}"
START: Final = "/functions/{name}/tasks"

# The statuses that every call may be answered before it is one.
REFUSED: Final = {int(refusal.status) for refusal in Refusal}

# Methods that no handler has.
BESIDE_HANDLERS: Final = ("head", "options")

# `{ended}` is a task that has ended, `{silent}` one that runs on, `{expired}` one whose log is gone.
REQUESTS: Final = [
    Asked("GET", "/tasks", 200),
    Asked("GET", "/tasks", 400, "/tasks?limit=0"),
    Asked("POST", "/tasks", 200, body=COUNT, headers=SSE),
    Asked("POST", "/tasks", 200, body=COUNT, headers=LINES),
    Asked("POST", "/tasks", 202, body=COUNT),
    Asked("POST", "/tasks", 202, body=COUNT, headers=SHARED),
    Asked("POST", "/tasks", 204, body=COUNT, headers=SHARED | SSE | {"Last-Event-ID": "1"}),
    Asked("POST", "/tasks", 400, body=[]),
    Asked("POST", "/tasks", 400, body={"function": "count", "input": {"to": "x"}}),
    Asked("POST", "/tasks", 404, body={"function": "nope"}),
    Asked("POST", "/tasks", 410, body=COUNT, headers={"Idempotency-Key": "{key}"} | SSE),
    Asked("POST", "/tasks", 413, body={"function": "words", "input": {"text": "x" * 64_000}}),
    Asked("POST", "/tasks", 422, body={"function": "nothing"}, headers=SHARED),
    Asked("POST", START, 200, "/functions/count/tasks", {"to": 1}, SSE),
    Asked("POST", START, 202, "/functions/count/tasks", {"to": 1}),
    Asked("POST", START, 204, "/functions/count/tasks", {"to": 1}, SHARED | SSE | {"Last-Event-ID": "1"}),
    Asked("POST", START, 400, "/functions/count/tasks", {"to": 1}, SSE | {"Last-Event-ID": "0"}),
    Asked("POST", START, 404, "/functions/nope/tasks", {}),
    Asked("POST", START, 410, "/functions/count/tasks", {"to": 1}, {"Idempotency-Key": "{key}"} | SSE),
    Asked("POST", START, 413, "/functions/words/tasks", {"text": "x" * 64_000}),
    Asked("POST", START, 422, "/functions/nothing/tasks", {}, SHARED),
    Asked("GET", TASK, 200, "/tasks/{ended}"),
    Asked("GET", TASK, 200, "/tasks/{silent}"),
    Asked("GET", TASK, 400, "/tasks/{ended}?x=1"),
    Asked("GET", TASK, 404, f"/tasks/{UNKNOWN}"),
    Asked("DELETE", TASK, 200, "/tasks/{ended}"),
    Asked("DELETE", TASK, 202, "/tasks/{silent}"),
    Asked("DELETE", TASK, 400, "/tasks/{ended}?x=1"),
    Asked("DELETE", TASK, 204, "/tasks/{ended}?purge=true"),
    Asked("DELETE", TASK, 404, f"/tasks/{UNKNOWN}"),
    Asked("GET", f"{TASK}/stream", 200, "/tasks/{ended}/stream"),
    Asked("GET", f"{TASK}/stream", 200, "/tasks/{ended}/stream", headers=LINES),
    Asked("GET", f"{TASK}/stream", 204, "/tasks/{ended}/stream?after=tail"),
    Asked("GET", f"{TASK}/stream", 400, "/tasks/{ended}/stream?after=x"),
    Asked("GET", f"{TASK}/stream", 404, f"/tasks/{UNKNOWN}/stream"),
    Asked("GET", f"{TASK}/stream", 410, "/tasks/{expired}/stream"),
    Asked("GET", f"{TASK}/chunks", 200, "/tasks/{ended}/chunks"),
    Asked("GET", f"{TASK}/chunks", 200, "/tasks/{ended}/chunks?after=1000"),
    Asked("GET", f"{TASK}/chunks", 400, "/tasks/{ended}/chunks?wait=x"),
    Asked("GET", f"{TASK}/chunks", 404, f"/tasks/{UNKNOWN}/chunks"),
    Asked("GET", f"{TASK}/chunks", 410, "/tasks/{expired}/chunks"),
    Asked("POST", f"{TASK}/tickets", 201, "/tasks/{ended}/tickets"),
    Asked("POST", f"{TASK}/tickets", 400, "/tasks/{ended}/tickets?x=1"),
    Asked("POST", f"{TASK}/tickets", 404, f"/tasks/{UNKNOWN}/tickets"),
    Asked("POST", f"{TASK}/tickets", 410, "/tasks/{expired}/tickets"),
    Asked("GET", "/functions", 200),
    Asked("GET", "/functions", 304, headers={"If-None-Match": "*"}),
    Asked("GET", "/functions", 400, "/functions?x=1"),
    Asked("GET", "/functions/{name}", 200, "/functions/chat"),
    Asked("GET", "/functions/{name}", 400, "/functions/chat?x=1"),
    Asked("GET", "/functions/{name}", 404, "/functions/nope"),
    Asked("PUT", "/functions/{name}/paused", 200, "/functions/nothing/paused"),
    Asked("PUT", "/functions/{name}/paused", 400, "/functions/nothing/paused?x=1"),
    Asked("PUT", "/functions/{name}/paused", 404, "/functions/nope/paused"),
    Asked("DELETE", "/functions/{name}/paused", 200, "/functions/nothing/paused"),
    Asked("DELETE", "/functions/{name}/paused", 400, "/functions/nothing/paused?x=1"),
    Asked("DELETE", "/functions/{name}/paused", 404, "/functions/nope/paused"),
    Asked("GET", "/health/live", 200),
    Asked("GET", "/health/live", 400, "/health/live?x=1"),
    Asked("GET", "/health/ready", 200),
    Asked("GET", "/health/ready", 400, "/health/ready?x=1"),
    Asked("HEAD", TASK, 200, "/tasks/{ended}"),
    Asked("HEAD", f"{TASK}/stream", 410, "/tasks/{expired}/stream"),
    Asked("OPTIONS", TASK, 204, "/tasks/{ended}"),
]


@pytest.fixture(scope="module")
def without_redis() -> Iterator[Api]:
    """An API whose Redis is nowhere."""
    with api_process("redis://127.0.0.1:1/0") as api:
        yield api


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Any:
    """The document, without the operations that are made of the announced functions."""
    whole = (await client.get("/schema")).json()
    generic = {path: calls for path, calls in whole["paths"].items() if path == START or not path.endswith("/tasks")}
    return whole | {"paths": generic | {"/tasks": whole["paths"]["/tasks"]}}


@pytest.fixture
async def tasks(client: httpx.AsyncClient, redis: Redis) -> AsyncIterator[dict[str, str]]:
    """The tasks, and the key, that the table names."""
    key = uuid4().hex
    ids = {
        "ended": await start(client, "count", to=1),
        "expired": await start(client, "count", {"Idempotency-Key": key}, to=1),
    }
    for task_id in ids.values():
        await follow(client, task_id)
        await end_noted(redis, task_id)
    await redis.delete(keys.log(ids["expired"]))
    silent = await start(client, "count", to=100, every=3_600)
    yield {**ids, "silent": silent, "key": key}
    await client.delete(f"/tasks/{silent}")


async def ask(client: httpx.AsyncClient, asked: Asked, names: dict[str, str]) -> httpx.Response:
    """The answer to a request of the table; a task that it starts has its whole log by then."""
    path = (asked.path or asked.template).format_map(names)
    headers = {name: value.format_map(names) for name, value in asked.headers.items()}
    answer = await client.request(asked.method, path, json=asked.body, headers=headers)
    if answer.status_code == 202 and asked.method == "POST":
        await follow(client, answer.json()["task_id"])
    return answer


@pytest.mark.parametrize("asked", REQUESTS, ids=str)
async def test_an_answer_is_as_documented(
    client: httpx.AsyncClient, document: Any, tasks: dict[str, str], asked: Asked
) -> None:
    """A request of the table is answered with the status that it shows, and as the document says."""
    if asked.status in (204, 422) and SHARED.items() <= asked.headers.items():
        await ask(client, Asked("POST", "/tasks", 202, body=COUNT, headers=SHARED), tasks)
    answer = await ask(client, asked, tasks)
    assert answer.status_code == asked.status, answer.text
    check(document, answer, asked.method, asked.template)


def calls_of(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Every operation: its path, its method and what is said of it."""
    for path, calls in document["paths"].items():
        for method, operation in calls.items():
            yield path, method, operation


def url_of(path: str) -> str:
    """A path for a placeholder's: that of a task that there is not."""
    return re.sub(r"{\w+}", UNKNOWN, path)


async def test_every_documented_answer_is_asked_for(document: Any) -> None:
    """The table has a request for every status of every call, or one of the four tests below has. An API without
    authentication always makes tickets (501).
    """
    documented = {
        (method.upper(), path, int(status))
        for path, method, operation in calls_of(document)
        if method not in BESIDE_HANDLERS
        for status in operation["responses"]
    }
    table = {(asked.method, asked.template, asked.status) for asked in REQUESTS}
    refused_below = {each for each in documented if each[2] in REFUSED - {400, 413}}
    too_long_below = {each for each in documented if each[2] == 413 and each[0] != "POST"}
    too_long_below |= {each for each in documented if each[2] == 413 and each[1].endswith("/tickets")}
    elsewhere = {each for each in documented if each[2] in (403, 501)} | refused_below | too_long_below
    assert documented - elsewhere == {each for each in table if each[0].lower() not in BESIDE_HANDLERS}


async def test_another_site_is_refused_as_documented(client: httpx.AsyncClient, document: Any) -> None:
    """Each call but those of /health answers 403 to a foreign host, and to a foreign origin if it changes something."""
    for path, method, operation in calls_of(document):
        open_to_all = path.startswith("/health/")
        assert ("403" in operation["responses"]) == (not open_to_all), (method, path)
        changes = method in ("post", "put", "delete")
        for headers in [] if open_to_all else [REBOUND, FOREIGN] if changes else [REBOUND]:
            answer = await client.request(method, url_of(path), headers=headers, json={})
            assert answer.status_code == 403
            if answer.content:
                check(document, answer, method, path)


async def test_an_absent_redis_is_answered_as_documented(without_redis: Api, document: Any) -> None:
    """Every call but /health/live needs Redis, and answers 503. So does HEAD. OPTIONS needs nothing."""
    async with client_of(without_redis) as client:
        for path, method, _ in calls_of(document):
            body = COUNT if path == "/tasks" else {"to": 1}
            answer = await client.request(method, url_of(path), json=body, headers=LINES)
            needs_it = path != "/health/live" and method != "options"
            assert (answer.status_code == 503) == needs_it, (method, path, answer.text)
            if answer.content:
                check(document, answer, method, path)


async def test_too_many_requests_are_answered_as_documented(redis_url: str, document: Any) -> None:
    """Every call but the health checks answers 429. OPTIONS does not: browsers send it without a credential."""
    settings = {"TAILRACE_OWNER_REQUESTS": "1", "TAILRACE_OWNER_BURST": "1"}
    with api_process(redis_url, **settings) as api:
        async with client_of(api) as client:
            for path, method, _ in calls_of(document):
                asked = (client.request(method, url_of(path), json={}, headers=LINES) for _ in range(20))
                refused = [answer for answer in await asyncio.gather(*asked) if answer.status_code == 429]
                passes = path.startswith("/health/") or method == "options"
                assert bool(refused) == (not passes), (method, path)
                for answer in refused:
                    if answer.content:
                        check(document, answer, method, path)


# Bytes that never become a request, behind a call's method and path; and the status that answers them.
NEVER_A_REQUEST: Final = {
    408: b" HTTP/1.1\r\nHost: localhost\r\nX",
    400: b" HTTP/1.1\r\n\r\n",
    413: b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1_200_000,
    414: b"?" + b"a" * 40_000,
    431: b" HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
}


@pytest.fixture(scope="module")
def impatient(redis_url: str) -> Iterator[Api]:
    """An API that waits for the rest of a head for half a second."""
    with api_process(redis_url, TAILRACE_HEAD_S="0.5") as api:
        yield api


@pytest.mark.parametrize("status", NEVER_A_REQUEST)
async def test_what_never_becomes_a_request_is_answered_as_documented(
    impatient: Api, document: Any, status: int
) -> None:
    """Of every call that has not answered by then: those that read no body may, before a body is too long."""

    async def refusal(path: str, method: str) -> bytes:
        async with connection(impatient.url) as client:
            with suppress(ConnectionError):  # the API may hang up before it has all
                await client.send(f"{method.upper()} {url_of(path)}".encode() + NEVER_A_REQUEST[status])
            return await client.until_end()

    calls = [(path, method) for path, method, _ in calls_of(document) if status != 413 or method == "post"]
    for answer in await asyncio.gather(*(refusal(*call) for call in calls)):
        assert refused(answer)[0] == status
    for path, method in calls:
        described = responses(document, document["paths"][path][method])[status]
        assert "content" not in described if method == "head" else PROBLEM in described["content"]


async def test_every_refusal_is_documented(document: Any, client: httpx.AsyncClient) -> None:
    """Whatever the guard of the connections may answer stands at every operation, those of the functions included."""
    whole = (await client.get("/schema")).json()
    for path, method, operation in [*calls_of(document), *calls_of(whole)]:
        assert {str(status) for status in REFUSED} <= operation["responses"].keys(), (method, path)


async def test_head_and_options_are_documented_where_they_work(client: httpx.AsyncClient, document: Any) -> None:
    """OPTIONS of each path names the methods that the document has for it."""
    for path, calls in document["paths"].items():
        answer = await client.options(url_of(path))
        check(document, answer, "options", path)
        assert answer.headers["allow"].lower().split(", ") == sorted(calls), path
        assert responses(document, calls["options"])[204]["headers"].keys() == {"Allow"}


async def test_head_is_documented_as_get_is(document: Any) -> None:
    """With its parameters and its statuses, and no body."""
    for path, calls in document["paths"].items():
        if "get" in calls:
            assert calls["head"]["responses"].keys() == calls["get"]["responses"].keys(), path
            assert calls["head"]["parameters"] == calls["get"].get("parameters", [])
            assert not any("content" in each for each in responses(document, calls["head"]).values())


async def test_functions_have_no_call_that_nobody_needs(client: httpx.AsyncClient) -> None:
    """A generated client has one call for each function."""
    whole = (await client.get("/schema")).json()["paths"]
    listed = (await client.get("/functions")).json()["functions"]
    assert {tuple(whole[f"/functions/{each['name']}/tasks"]) for each in listed} == {("post",)}


def parameters(document: Any) -> list[tuple[str, Any]]:
    """All parameters of a document, each with its operation. Those of HEAD are those of GET."""
    return [
        (f"{method} {path}", parameter)
        for path, method, operation in calls_of(document)
        if method != "head"
        for parameter in operation.get("parameters", [])
    ]


async def test_parameters_are_plain(document: Any) -> None:
    """A header and a query are left out or have a value: none is null. Numbers are numbers, with their bounds."""
    for operation, parameter in parameters(document):
        assert parameter["schema"]["type"] in ("string", "integer", "number", "boolean"), (operation, parameter)
        assert parameter["required"] == (parameter["in"] == "path")
    numbers = {
        (operation, parameter["name"]): [parameter["schema"].get(word) for word in ("type", "minimum", "maximum")]
        for operation, parameter in parameters(document)
        if parameter["name"] in ("limit", "wait")
    }
    assert numbers == {
        ("get /tasks", "limit"): ["integer", 1, 100],
        (f"get {TASK}/chunks", "limit"): ["integer", 1, 1_000],
        (f"get {TASK}/chunks", "wait"): ["number", 0, WAIT.high],
    }


async def test_a_cursor_is_documented_once_in_each_place(document: Any) -> None:
    """Names that differ in case and hyphens only are one name in a generated client."""
    stream = document["paths"][f"{TASK}/stream"]["get"]["parameters"]
    assert [(each["in"], each["name"]) for each in stream if each["in"] != "path"] == [
        ("header", "Last-Event-ID"),
        ("query", "after"),
        ("query", "ticket"),
    ]
