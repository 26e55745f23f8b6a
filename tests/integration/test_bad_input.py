"""Bad input of every kind: the answer says what is wrong and what would be right, at once, and nothing else happens."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from plugins import keys
from tests.support.canaries import CANARY
from tests.support.client import events, follow, start
from tests.support.processes import Api, Process, api_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.sse import strict
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio

JSON: Final = {"content-type": "application/json"}
MAX_BODY: Final = 64_000

# An id of the right form that no task has.
UNKNOWN: Final = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process) -> Iterator[Api]:
    """An API for this file alone: these requests harm no other test."""
    with api_process(redis_url) as one:
        yield one


@pytest.fixture
async def finished(client: httpx.AsyncClient) -> str:
    """A task that has ended, with four entries in its log."""
    task_id = await start(client, "count", to=3)
    await follow(client, task_id)
    return task_id


async def raw(api: Api, request: bytes) -> httpx.Response:
    """Send these bytes, and read the answer until the server hangs up."""
    where = urlsplit(api.url)
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            writer.write(request)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    status, *fields = head.split(b"\r\n")
    headers = [(name, value) for name, _, value in (field.partition(b": ") for field in fields)]
    if (b"transfer-encoding", b"chunked") in headers:
        body = b"".join(re.findall(rb"[0-9a-f]+\r\n(.+?)\r\n(?=[0-9a-f]+\r\n)", body, re.DOTALL))
        headers.remove((b"transfer-encoding", b"chunked"))
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


async def get(api: Api, target: str, *headers: bytes, method: str = "GET") -> httpx.Response:
    """Ask for this target as it stands: no client mends what is wrong with it."""
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", *headers]
    return await raw(api, b"\r\n".join(lines) + b"\r\n\r\n")


def problem(answer: httpx.Response, status: int, kind: str | None = None) -> dict[str, Any]:
    """The problem that this answer is (RFC 9457). It says what is wrong, and nothing about the inside."""
    assert answer.status_code == status, answer.text[:1_000]
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:tailrace:problem:")
    assert kind is None or body["type"] == f"urn:tailrace:problem:{kind}"
    assert body["title"]
    assert body["detail"]
    assert not re.search(r"Traceback|File \"|msgspec|litestar|redis\.", answer.text)
    return body


def said(body: dict[str, Any]) -> str:
    """All that a problem tells its reader."""
    faults = [f"{fault['pointer']}: {fault['message']}" for fault in body.get("errors", [])]
    return " ".join([body["title"], body["detail"], *faults])


async def post(client: httpx.AsyncClient, body: bytes, **headers: str) -> httpx.Response:
    """Post these bytes as a new task."""
    return await client.post("/tasks", content=body, headers={**JSON, **headers})


def count(to: bytes) -> bytes:
    """A request to count up to this JSON."""
    return b'{"function":"count","input":{"to":' + to + b"}}"


# A body that is not JSON, and what the answer must speak of.
MALFORMED: Final = {
    "truncated": (b'{"function":"count","input":{"to"', "truncated"),
    "truncated in a name": (b'{"func', "truncated"),
    "garbage": (b"hello", "malformed"),
    "form": (b"function=count&to=1", "malformed"),
    "two bodies": (count(b"1") * 2, "trailing"),
    "NUL": (b"\0", "malformed"),
    "NUL after it": (count(b"1") + b"\0", "trailing"),
    "NUL in a string": (b'{"function":"co\0unt"}', "invalid character"),
    "bytes that are no UTF-8": (b"\xff\xfe\0", "malformed"),
    "no UTF-8 in a name": (b'{"function":"count\xff","input":{"to":1}}', "(?i)utf-?8"),
    "no UTF-8 in the input": (b'{"function":"words","input":{"text":"\xc3("}}', "(?i)utf-?8"),
    "UTF-16": ('{"function":"nothing"}'.encode("utf-16"), "malformed"),
    "a surrogate written as UTF-8": (b'{"function":"words","input":{"text":"\xed\xa0\x80"}}', "(?i)utf-?8"),
    "a lone surrogate": (count(b'"\\ud800"'), r"lone surrogate \\ud800 \(byte 35\)"),
    "a lone surrogate before text": (b'{"a":"b\\uD8AB and so on","c":"\\udc00"}', r"lone surrogate \\uD8AB \(byte 7\)"),
    "a lone surrogate before another escape": (b'{"a":"\\udbff\\n\\u0041"}', r"lone surrogate \\udbff \(byte 6\)"),
    "two high surrogates": (b'{"a":"\\ud83d\\ud83d\\ude00"}', r"lone surrogate \\ud83d \(byte 6\)"),
    "a lone low surrogate": (b'{"a":"\\ud83d\\ude00\\\\\\udc00"}', r"lone surrogate \\udc00 \(byte 20\)"),
    "a lone surrogate as a name": (
        b'{"function":"nothing","input":{"\\udfff":1}}',
        r"lone surrogate \\udfff \(byte 32\)",
    ),
    "cut behind half a pair": (b'{"a":"\\ud83d', "truncated"),
    "cut within a pair": (b'{"a":"\\ud83d\\ud', "truncated"),
    "cut behind the name of a surrogate": (b'{"a":"\\\\ud800 b', "truncated"),
    "a fault before a lone surrogate": (b'{"a":tru,"b":"\\ud800"}', "invalid character"),
    "NaN": (count(b"NaN"), "invalid character"),
    "Infinity": (count(b"-Infinity"), "malformed"),
    "1e999": (count(b"1e999"), "out of range"),
    "5,000 digits": (count(b"9" * 5_000), "out of range"),
    "single quotes": (b"{'function':'count'}", "malformed"),
    "a trailing comma": (b'{"function":"count",}', "malformed"),
}

# JSON that is no request, each with a pattern of the words that the answer must have.
MISSHAPEN: Final = {
    "empty": (b"", "body|object"),
    "blank": (b" \n", "body|object|truncated"),
    "null": (b"null", "object.*null"),
    "an array": (b"[]", "object.*array"),
    "a request in an array": (b"[" + count(b"1") + b"]", "object.*array"),
    "a string": (b'"count"', "object.*str"),
    "a number": (b"1", "object.*int"),
    "true": (b"true", "object.*bool"),
    "no function": (b'{"input":{"to":1}}', "function"),
    "function is a number": (b'{"function":1}', "/function: .*str.*int"),
    "function is null": (b'{"function":null}', "/function: .*str.*null"),
    "function is an array": (b'{"function":["count"]}', "/function: .*str.*array"),
    "an unknown field": (b'{"function":"count","input":{"to":1},"inptu":{}}', "inptu"),
    "input is an array": (b'{"function":"count","input":[1]}', "/input: .*object.*array"),
    "input is null": (b'{"function":"count","input":null}', "/input: .*object.*null"),
    "input is a string": (b'{"function":"count","input":"{}"}', "/input: .*object.*str"),
}

# Deeper than any parser goes, or than a schema is checked.
DEEP: Final = {
    "30,000 arrays, never closed": b"[" * 30_000,
    "30,000 arrays": count(b"[" * 30_000 + b"]" * 30_000),
    "10,000 objects": count(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "900 arrays": count(b"[" * 900 + b"]" * 900),
    "300 objects": count(b'{"a":' * 300 + b"1" + b"}" * 300),
}

STRANGE_NAMES: Final = {
    "another": "nope",
    "empty": "",
    "a star": "*",
    "a line end": "count\n",
    "NUL": "count\0",
    "a path": "../count",
    "another case": "Count",
    "a blank": " count",
    "a key": "functions",
    "no ASCII": "cöunt💧",
    "full width": "ｃｏｕｎｔ",
    "long": "x" * 30_000,
    "a format": "%s{0}{name!r}",
}


@pytest.mark.parametrize(("body", "speaks_of"), MALFORMED.values(), ids=MALFORMED)
async def test_a_body_that_is_not_json(client: httpx.AsyncClient, body: bytes, speaks_of: str) -> None:
    """400: it says where the JSON goes wrong, and that a JSON object would be right."""
    answer = problem(await post(client, body), 400, "invalid-json")
    assert "JSON object" in answer["detail"]
    assert re.search(speaks_of, said(answer)), said(answer)


@pytest.mark.parametrize(("body", "speaks_of"), MISSHAPEN.values(), ids=MISSHAPEN)
async def test_json_that_is_not_a_request(client: httpx.AsyncClient, body: bytes, speaks_of: str) -> None:
    """400: it names the field, what it must be and what it is."""
    answer = problem(await post(client, body), 400)
    assert answer["type"] in ("urn:tailrace:problem:invalid-request", "urn:tailrace:problem:invalid-json")
    assert re.search(speaks_of, said(answer)), said(answer)


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
async def test_json_that_is_nested_too_deep(redis_url: str, worker: Process, body: bytes) -> None:
    """400 at once, and no other request waits for it."""
    with api_process(redis_url) as api:  # one of its own, in case it does take the process along
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            problem(await post(client, body), 400)
            assert (await client.get("/health/live")).status_code == 200


async def test_a_number_of_sixty_digits(client: httpx.AsyncClient, redis: Redis) -> None:
    """JSON sets no bound to integers: it arrives as it was sent, and an integer parameter takes it."""
    answer = await post(client, count(b"-" + b"9" * 60))
    assert answer.status_code == 202
    assert await follow(client, answer.json()["task_id"]) == ([], "done", {"chunks": 0})

    answer = await post(client, count(b"9" * 60))
    assert answer.status_code == 202
    assert [event.data for event in await events(client, answer.json()["task_id"], most=3)] == ["1", "2", "3"]
    assert (await client.delete(answer.json()["status_url"])).status_code == 202


async def test_a_number_that_only_the_function_cannot_take(client: httpx.AsyncClient, redis: Redis) -> None:
    """An integer beyond every float is JSON and fits the schema: the task fails and says why, and does not hang."""
    answer = await post(client, b'{"function":"count","input":{"to":1,"every":' + b"9" * 400 + b"}}")
    assert answer.status_code in (202, 400)
    if answer.status_code == 202:
        async with asyncio.timeout(DEADLINE_S):
            chunks, end, why = await follow(client, answer.json()["task_id"])
        assert (chunks, end, why["code"]) == ([], "failed", "invalid_input")


@pytest.mark.parametrize("name", STRANGE_NAMES.values(), ids=STRANGE_NAMES)
async def test_an_unknown_function(client: httpx.AsyncClient, name: str) -> None:
    """404 with twenty of the names that there are, however strange the one that was asked for."""
    known = [function["name"] for function in (await client.get("/functions")).json()["functions"]]
    answer = problem(await post(client, json.dumps({"function": name}).encode()), 404, "unknown-function")

    assert set(answer["known"]) < set(known)
    assert (len(answer["known"]), answer["more"]) == (20, len(known) - 20)
    assert all(each in answer["detail"] for each in answer["known"])
    assert len(answer["detail"]) < 2_000
    if name:
        assert problem(await client.get("/functions/" + quote(name, safe="")), 404)["type"] in (
            "urn:tailrace:problem:unknown-function",
            "urn:tailrace:problem:not-found",  # a slash makes it another address
        )


async def test_every_fault_of_an_input_at_once(client: httpx.AsyncClient) -> None:
    """400 with exactly one JSON pointer per fault, escaped where a name needs it: all is mended in one go."""
    given = {"every": CANARY, "a/b~c": 1, "~1": 1, "other": None, "": 2}
    answer = problem(
        await post(client, json.dumps({"function": "count", "input": given}).encode()), 400, "invalid-input"
    )
    faults = {fault["pointer"]: fault["message"] for fault in answer["errors"]}

    assert "/functions/count" in answer["detail"]
    assert len(answer["errors"]) == len(faults)
    assert set(faults) == {
        "/input/to",
        "/input/every",
        "/input/a~1b~0c",
        "/input/~01",
        "/input/other",
        "/input/",
    }
    assert "required" in faults["/input/to"]
    assert CANARY in faults["/input/every"]
    assert "number" in faults["/input/every"]
    assert "unknown" in faults["/input/a~1b~0c"]


async def test_faults_deep_in_an_input(client: httpx.AsyncClient) -> None:
    """A pointer leads to the place, through arrays and objects."""
    messages = [{"role": "user", "content": "Hi"}, {"role": "wizard", "content": 1, "mood/": "?"}, {"role": "user"}]
    body = json.dumps({"function": "chat", "input": {"messages": messages}}).encode()
    answer = problem(await post(client, body), 400, "invalid-input")

    place = "/input/messages"
    assert sorted(fault["pointer"] for fault in answer["errors"]) == [
        f"{place}/1/content",
        f"{place}/1/mood~1",
        f"{place}/1/role",
        f"{place}/2/content",
    ]


async def test_more_faults_than_an_answer_names(client: httpx.AsyncClient) -> None:
    """The answer names fifty faults, and says how many more there are."""
    given = {f"unknown {number}": 1 for number in range(120)}
    answer = problem(
        await post(client, json.dumps({"function": "count", "input": given}).encode()), 400, "invalid-input"
    )
    assert len(answer["errors"]) == 50
    assert answer["more"] == 120 + 1 - 50  # `to` is missing
    assert "71 more errors" in answer["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"function": "chat", "input": {"messages": [{}] * 20_000}}, id="empty objects"),
        pytest.param({"function": "chat", "input": {"messages": [0] * 30_000}}, id="numbers"),
        pytest.param({"function": "count", "input": {f"unknown {n}": 1 for n in range(3_500)}}, id="unknown names"),
        pytest.param({"function": "count", "input": {"x" * 60_000: 1}}, id="a long name"),
        pytest.param({"function": "chat", "input": {"messages": ["x" * 60_000]}}, id="a long text"),
    ],
)
async def test_a_large_input_that_is_wrong(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    """To say so costs the API no more than an answer of some kilobytes: it does not look for thousands of faults."""
    body = json.dumps(wrong, separators=(",", ":")).encode()
    assert 50_000 < len(body) < 64_000
    answer = await post(client, body)
    assert len(answer.content) < 16_000
    told = problem(answer, 400, "invalid-input")
    assert 1 <= len(told["errors"]) <= 50
    assert len(wrong["input"]) == 1 or "It is large, so only the first error is told." in told["detail"]


async def test_an_integer_is_not_a_boolean(client: httpx.AsyncClient) -> None:
    """`true` is no number, "1" is none, 1.5 is no integer: nothing is converted behind the client's back."""
    for value in (b"true", b'"1"', b"1.5", b"null", b"[1]", b"{}"):
        answer = problem(await post(client, count(value)), 400, "invalid-input")
        assert [fault["pointer"] for fault in answer["errors"]] == ["/input/to"]


def sized(size: int) -> bytes:
    """A request of this many bytes."""
    empty = b'{"function":"words","input":{"text":""}}'
    return empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"')


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Piece by piece: the client sends no length."""
    for begin in range(0, len(body), 7_000):
        yield body[begin : begin + 7_000]


@pytest.mark.parametrize("size", [MAX_BODY + 1, 1_000_000])
async def test_a_body_that_is_too_long(client: httpx.AsyncClient, size: int) -> None:
    """413 that names the limit, whether or not the client says its length beforehand; and the connection is as good."""
    for content in (sized(size), in_pieces(sized(size))):
        answer = await client.post("/tasks", content=content, headers=JSON)
        assert "64,000" in problem(answer, 413, "too-large")["detail"]
        assert (await client.get("/health/live")).status_code == 200


async def test_a_body_that_is_just_not_too_long(client: httpx.AsyncClient, redis: Redis) -> None:
    """64,000 bytes pass, with and without a length, and arrive whole."""
    text = json.loads(sized(MAX_BODY))["input"]["text"]
    for content in (sized(MAX_BODY), in_pieces(sized(MAX_BODY))):
        answer = await client.post("/tasks", content=content, headers=JSON)
        assert answer.status_code == 202, answer.text
        chunks, end, _ = await follow(client, answer.json()["task_id"])
        assert ("".join(chunks), end) == (text, "done")


async def test_a_body_that_is_announced_and_never_sent(api: Api) -> None:
    """A length beyond the limit is refused before a byte of it."""
    announced = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n"
    problem(await raw(api, announced), 413, "too-large")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/x-www-form-urlencoded",  # curl's default
        "text/plain",
        "application/json; charset=utf-8",
        "application/problem+json",
        "application/x-msgpack",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "*/*",
        "nonsense",
        "",
        "application/json; charset=nonsense",
    ],
)
async def test_whatever_the_content_type_says(
    client: httpx.AsyncClient, redis: Redis, content_type: str | None
) -> None:
    """A JSON body is taken for what it is: `curl -d` needs no header."""
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await client.post("/tasks", content=count(b"1"), headers=headers)
    assert answer.status_code == 202, answer.text
    assert await follow(client, answer.json()["task_id"]) == ([1], "done", {"chunks": 1})

    problem(await client.post("/tasks", content=b"to=1", headers=headers), 400, "invalid-json")


@pytest.fixture(scope="module")
def alone() -> Iterator[tuple[Api, EmbeddedRedis]]:
    """An API with a Redis of its own, without a worker: whatever Redis is asked there, this API asks."""
    with EmbeddedRedis() as server, api_process(server.url) as api:
        yield api, server


@asynccontextmanager
async def asked(server: EmbeddedRedis) -> AsyncIterator[list[str]]:
    """The commands that the server gets meanwhile; the list is complete when the context ends."""
    commands: list[str] = []
    fence = uuid4().hex
    async with Redis.from_url(server.url) as redis, redis.monitor() as monitor:
        yield commands
        await redis.echo(fence)
        async with asyncio.timeout(DEADLINE_S):
            while fence not in (command := (await monitor.next_command())["command"]):
                commands.append(command)


def about_tasks(commands: list[str]) -> list[str]:
    """Those that name a task's key, or are meant for its worker. All else an API does of its own accord."""
    return [command for command in commands if re.search(r"stream:|tasks:cancel|ZREM|ZADD|XADD", command)]


ROUTES: Final = [("GET", ""), ("GET", "/stream"), ("GET", "/chunks"), ("DELETE", "")]

# Percent-encoded as they go into the path.
NOT_IDS: Final = {
    "a colon": "a:b",
    "a key": f"{UNKNOWN[:25]}:chunks",
    "braces": "%7B" + UNKNOWN[:30] + "%7D",
    "a star": "*",
    "a line end": UNKNOWN[:31] + "%0A",
    "a line end behind it": UNKNOWN + "%0A",
    "a line end before it": "%0A" + UNKNOWN,
    "CR LF": f"{UNKNOWN}%0D%0ADEL",
    "NUL": "%00",
    "NUL behind it": UNKNOWN + "%00",
    "a blank behind it": UNKNOWN + "%20",
    "no ASCII": "%C3%A9" * 32,
    "no UTF-8": "%FF" * 32,
    "a line separator": UNKNOWN[:31] + "%E2%80%A8",
    "upper case": UNKNOWN.upper(),
    "31 characters": UNKNOWN[:31],
    "33 characters": UNKNOWN + "0",
    "letters beyond f": "g" * 32,
    "full-width digits": quote("１" * 32),
    "Arabic digits": quote("٣" * 32),
    "a UUID": "01234567-89ab-cdef-0123-456789abcdef",
    "0x": "0x" + UNKNOWN[:30],
    "dots": "..",
    "a percent sign": "%",
    "half an escape": "%zz",
    "an escape twice": "%2530" * 32,
    "30,000 digits": "0" * 30_000,
}


@pytest.mark.parametrize("task_id", NOT_IDS.values(), ids=NOT_IDS)
async def test_an_id_of_the_wrong_form(alone: tuple[Api, EmbeddedRedis], task_id: str) -> None:
    """The same 404 as for an id that no task has, byte for byte, on every route; and Redis never hears of it."""
    api, server = alone
    async with asked(server) as commands:
        unknown = [await get(api, f"/tasks/{UNKNOWN}{route}", method=method) for method, route in ROUTES]
    assert len(about_tasks(commands)) == 2 * len(ROUTES), "what a look-up asks is seen here"

    async with asked(server) as commands:
        answers = [await get(api, f"/tasks/{task_id}{route}", method=method) for method, route in ROUTES]
    for answer in answers:
        problem(answer, 404, "unknown-task")
    assert [answer.content for answer in answers] == [answer.content for answer in unknown]
    assert about_tasks(commands) == []


@pytest.mark.parametrize(
    "task_id",
    ["%2F", "a%2Fb", "..%2F..", "%2E%2E", "%30" * 32, f"{UNKNOWN}%2Fstream%2Fx", "", "0" * 100_000],
    ids=["a slash", "a path", "dots", "encoded dots", "encoded digits", "a route", "none", "100,000 digits"],
)
async def test_an_id_that_makes_another_address(alone: tuple[Api, EmbeddedRedis], task_id: str) -> None:
    """A slash in it, however it is encoded, divides the path, and nothing is found; nor is another spelling of an id. A
    path can be only so long.
    """
    api, server = alone
    async with asked(server) as commands:
        answers = [await get(api, f"/tasks/{task_id}{route}", method=method) for method, route in ROUTES]

    if len(task_id) > 32_768:
        for answer in answers:
            problem(answer, 414, "url-too-long")
    else:
        # Without the id it may be the address of all tasks, which can be listed and takes other methods.
        listed, refused = [each for each in answers if each.is_success], [each for each in answers if each.is_error]
        assert [each.json() for each in listed] in ([], [{"tasks": [], "next": None}])
        assert len(refused) + len(listed) == len(answers)
        for answer in refused:
            problem(answer, answer.status_code)
            assert answer.status_code in (404, 405)
    assert about_tasks(commands) == []


GOOD_CURSORS: Final = ["", "-1", "0", "3", "tail", "1000", "9" * 17]
BAD_CURSORS: Final = {
    "negative": "-2",
    "minus zero": "-0",
    "30 digits": "9" * 30,
    "30 KB": "1" * 30_000,
    "text": "abc",
    "another case": "TAIL",
    "NUL": "\0",
    "NUL behind it": "3\0",
    "a float": "1.0",
    "a power": "1e1",
    "a sign": "+3",
    "blanks": " 3 ",
    "a line end": "3\n",
    "full width": "３",
    "Arabic": "٣",
    "superscript": "²",
    "two": "1,2",
    "two with a blank": "1, 2",
    "hex": "0x1",
    "an underscore": "1_0",
    "Redis' own": "$",
    "no UTF-8": "\udcff",
}


def percent(value: str) -> str:
    """As it goes into a query."""
    return quote(value.encode(errors="surrogateescape"), safe="")


@pytest.mark.parametrize("value", BAD_CURSORS.values(), ids=BAD_CURSORS)
async def test_a_cursor_of_the_wrong_form(api: Api, finished: str, value: str) -> None:
    """400 that names the parameter and says what a cursor is, wherever the cursor stands."""
    for path, name in (("stream", "last_event_id"), ("stream", "after"), ("chunks", "after")):
        answer = await get(api, f"/tasks/{finished}/{path}?{name}={percent(value)}")
        assert f"The parameter {name} must be" in problem(answer, 400, "invalid-cursor")["detail"]

    as_header = value.encode(errors="surrogateescape")
    answer = await get(api, f"/tasks/{finished}/stream", b"Last-Event-ID: " + as_header)
    if re.search(rb"[\0\n]", as_header):
        assert answer.status_code == 400  # by uvicorn: such a byte is no part of any header
    elif value == " 3 ":
        assert answer.status_code == 204  # blanks around a header's value are no part of it (RFC 9110, 5.5)
    else:
        assert "The header Last-Event-ID must be" in problem(answer, 400, "invalid-cursor")["detail"]


@pytest.mark.parametrize("value", GOOD_CURSORS)
async def test_a_cursor_of_the_right_form(api: Api, finished: str, value: str) -> None:
    """A stream, or 204 for a reader that has all entries. An empty cursor, as browsers and forms send it, is none."""
    queries = [f"/tasks/{finished}/stream?{name}={value}" for name in ("last_event_id", "after")]
    answers = [await get(api, query) for query in queries]
    answers.append(await get(api, f"/tasks/{finished}/stream", b"Last-Event-ID: " + value.encode()))

    for answer in answers:
        assert answer.status_code == (204 if value in ("3", "tail") else 200)
        assert answer.status_code == 204 or answer.text.endswith('event: done\ndata: {"chunks":3}\n\n')
    assert (await get(api, f"/tasks/{finished}/chunks?after={value}")).json()["ended"] is True


async def test_two_cursors(api: Api, finished: str) -> None:
    """The first one that is not empty counts, the header first of all: no other is looked at."""
    stream = f"/tasks/{finished}/stream"
    for target, headers in (
        (f"{stream}?last_event_id=x&after=y", (b"Last-Event-ID: 2",)),
        (f"{stream}?last_event_id=2&after=y", (b"Last-Event-ID:",)),
        (f"{stream}?lastEventId=2&after=y", ()),
        (f"{stream}?last_event_id=&after=2", ()),
    ):
        answer = await get(api, target, *headers)
        assert answer.status_code == 200, answer.text
        assert [event["id"] for event in strict(answer.content)] == [b"3"]


# Two values where there may be one, each with its problem's type and what that names.
TWICE: Final = {
    "a cursor": ("stream?after=1&after=2", (), "repeated-parameter", "after"),
    "a cursor, once empty": ("stream?after=&after=2", (), "repeated-parameter", "after"),
    "a cursor in two spellings": ("stream?lastEventId=1&Last-Event-ID=2", (), "repeated-parameter", "last_event_id"),
    "a limit": ("chunks?limit=1&limit=2", (), "repeated-parameter", "limit"),
    "the cursor's header": ("stream", (b"Last-Event-ID: 1", b"last-event-id: 2"), "repeated-header", "Last-Event-ID"),
    "the cursor's header, once empty": (
        "stream",
        (b"Last-Event-ID:", b"Last-Event-ID: 2"),
        "repeated-header",
        "Last-Event-ID",
    ),
    "the host": ("stream", (b"Host: another",), "repeated-header", "Host"),
}


@pytest.mark.parametrize(("target", "headers", "kind", "named"), TWICE.values(), ids=TWICE)
async def test_two_values(
    api: Api, finished: str, target: str, headers: tuple[bytes, ...], kind: str, named: str
) -> None:
    """400 that names what there is twice: neither value is preferred in silence."""
    answer = await get(api, f"/tasks/{finished}/{target}", *headers)
    assert named in problem(answer, 400, kind)["detail"]


async def test_the_same_value_twice(api: Api, finished: str) -> None:
    """Is one value: some clients and proxies repeat what they send."""
    twice = await get(api, f"/tasks/{finished}/stream?after=1&after=1", b"Last-Event-ID: 2", b"Last-Event-ID:  2 ")
    assert [event["id"] for event in strict(twice.content)] == [b"3"]


async def test_two_idempotency_keys(api: Api, redis: Redis) -> None:
    """400, and no task; with the same key twice there is one."""
    before = await redis.zcard(keys.by_owner("anonymous"))
    for path, body in (("/tasks", count(b"1")), ("/functions/count/tasks", b'{"to":1}')):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n".encode()
        )
        answer = await raw(api, head + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n" + body)
        assert "Idempotency-Key" in problem(answer, 400, "repeated-header")["detail"]
    assert await redis.zcard(keys.by_owner("anonymous")) == before

    key = b"Idempotency-Key: %b\r\n" % uuid4().hex.encode()
    assert (await raw(api, head + key + key + b"\r\n" + body)).status_code == 202


# Every call, with the parameters that it knows.
KNOWN: Final = {
    ("GET", "/tasks"): ["before", "limit"],
    ("POST", "/tasks"): [],
    ("POST", "/functions/count/tasks"): [],
    ("GET", f"/tasks/{UNKNOWN}"): [],
    ("DELETE", f"/tasks/{UNKNOWN}"): ["purge"],
    ("GET", f"/tasks/{UNKNOWN}/stream"): ["after", "last_event_id", "ticket"],
    ("GET", f"/tasks/{UNKNOWN}/chunks"): ["after", "limit", "ticket", "wait"],
    ("POST", f"/tasks/{UNKNOWN}/tickets"): [],
    ("GET", "/functions"): [],
    ("GET", "/functions/count"): [],
    ("PUT", "/functions/count/paused"): [],
    ("DELETE", "/functions/count/paused"): [],
    ("GET", "/health/live"): [],
    ("GET", "/health/ready"): [],
    ("GET", "/schema"): [],
    ("GET", "/schema/openapi.json"): [],
}


@pytest.mark.parametrize(("method", "path", "known"), [(*call, known) for call, known in KNOWN.items()])
async def test_an_unknown_parameter(api: Api, method: str, path: str, known: list[str]) -> None:
    """400 that names it and those that the call knows: a typo must not replay a whole task."""
    for query in ("afer=6", "%61fer=", "afer", "".join(f"{name}=1&" for name in known) + "afer=6"):
        answer = problem(await get(api, f"{path}?{query}", method=method), 400, "unknown-parameter")
        assert answer["known"] == known
        assert "afer" in answer["detail"]
        assert all(name in answer["detail"] for name in known)


async def test_every_call_has_its_parameters_tested(client: httpx.AsyncClient) -> None:
    """A call that is new is in the list above. HEAD has the parameters of GET, and OPTIONS reads none."""
    paths = (await client.get("/schema")).json()["paths"]
    calls = {(method.upper(), path) for path, item in paths.items() for method in item} - {
        (method, path) for method in ("HEAD", "OPTIONS") for path in paths
    }
    tested = {(method, path.replace(UNKNOWN, "{task_id}")) for method, path in KNOWN}
    named = {(method, re.sub(r"^/functions/[^/{]+", "/functions/{name}", path)) for method, path in calls}
    assert named <= {(method, path.replace("/count", "/{name}")) for method, path in tested}


@pytest.mark.parametrize("name", ["a" * 10_000, "%00", "%FF", "%E2%80%A8", "a%26b", "after%20", "[after]", ""])
async def test_a_strange_parameter(api: Api, finished: str, name: str) -> None:
    """400, and no longer than it need be."""
    answer = await get(api, f"/tasks/{finished}/stream?{name}=1")
    assert len(problem(answer, 400, "unknown-parameter")["detail"]) < 500


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "-1",
        "1001",
        "text",
        "9" * 30,
        "1.5",
        "nan",
        "inf",
        "1e2",
        "+5",
        " 5",
        "٥",
        "5,6",
        "1_0",
        "\0",
        "0x5",
        "tail",
    ],
)
async def test_a_limit_of_the_wrong_form(api: Api, finished: str, value: str) -> None:
    """400 that names it and its bounds."""
    answer = await get(api, f"/tasks/{finished}/chunks?limit={percent(value)}")
    assert (
        problem(answer, 400, "invalid-limit")["detail"] == "The parameter limit must be a whole number from 1 to 1000."
    )


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "46",
        "45.1",
        "60",  # a proxy in front would have given up
        "text",
        "nan",
        "inf",
        "-inf",
        "1e1",
        "9" * 30,
        "+1",
        " 1",
        "٣",
        "²",
        "1.2.3",
        ".",
        "\0",
        "1_0",
    ],
)
async def test_a_wait_of_the_wrong_form(api: Api, finished: str, value: str) -> None:
    """400 that names it and its bounds."""
    answer = await get(api, f"/tasks/{finished}/chunks?wait={percent(value)}")
    assert problem(answer, 400, "invalid-wait")["detail"] == "The parameter wait must be a number from 0 to 45."


@pytest.mark.parametrize("value", ["0", "-1", "101", "text", "9" * 30, "1.5", "+5", " 5", "٥", "\0"])
async def test_a_limit_of_the_list_of_the_wrong_form(api: Api, value: str) -> None:
    """400 that names it and its bounds, which are not those of a page of chunks."""
    answer = await get(api, f"/tasks?limit={percent(value)}")
    assert (
        problem(answer, 400, "invalid-limit")["detail"] == "The parameter limit must be a whole number from 1 to 100."
    )


@pytest.mark.parametrize("task_id", NOT_IDS.values(), ids=NOT_IDS)
async def test_a_place_in_the_list_of_the_wrong_form(api: Api, task_id: str) -> None:
    """400: only a task's id is a place to go on from. One that no task has, or none, is a place all the same."""
    answer = await get(api, f"/tasks?before={task_id}")
    assert "id of a task" in problem(answer, 400, "invalid-before")["detail"]

    for before in (UNKNOWN, ""):
        assert (await get(api, f"/tasks?before={before}")).status_code == 200


@pytest.mark.parametrize(
    "query", ["limit=", "limit=1", "limit=1000", "wait=", "wait=0", "wait=45", "wait=0.5", "WAIT=45"]
)
async def test_a_limit_and_a_wait_of_the_right_form(api: Api, finished: str, query: str) -> None:
    """A page at once: the task has ended. An empty parameter counts as absent."""
    page = (await get(api, f"/tasks/{finished}/chunks?{query}")).json()
    assert len(page["entries"]) == (1 if query == "limit=1" else 4)


@pytest.mark.parametrize(
    "key",
    [b"", b"x" * 256, b"x" * 10_000, "é".encode(), "é".encode("latin-1"), b"\xff", b"a\tb", b"  "],
    ids=["empty", "256", "10,000", "UTF-8", "Latin-1", "no UTF-8", "a tab", "blanks"],
)
async def test_an_idempotency_key_of_the_wrong_form(api: Api, redis: Redis, key: bytes) -> None:
    """400 that says what a key is, and no task."""
    before = await redis.zcard(keys.by_owner("anonymous"))
    head = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n" % len(count(b"1"))
    answer = await raw(api, head + b"Idempotency-Key: " + key + b"\r\n\r\n" + count(b"1"))

    assert "Idempotency-Key" in problem(answer, 400, "invalid-idempotency-key")["title"]
    assert "255 printable ASCII" in answer.json()["detail"]
    assert await redis.zcard(keys.by_owner("anonymous")) == before


@pytest.mark.parametrize("byte", [b"\0", b"\x01", b"\x7f", b"\r"])
async def test_a_header_with_a_control_character(api: Api, byte: bytes) -> None:
    """400 at once: no HTTP request has one."""
    head = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n" % len(count(b"1"))
    answer = await raw(api, head + b"Idempotency-Key: a" + byte + b"b\r\n\r\n" + count(b"1"))
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    ["/nope", "/task", "/tasks/x/nope", f"/tasks/{UNKNOWN}/chunks/3", "/functions/a/b", "//", "/%00", "/schema/nope"],
)
async def test_an_unknown_address(api: Api, path: str) -> None:
    """404 that says where to look."""
    assert "GET /schema" in problem(await get(api, path), 404, "not-found")["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/tasks", {"POST"}),
        ("DELETE", "/tasks", {"POST"}),
        ("POST", f"/tasks/{UNKNOWN}", {"GET", "DELETE"}),
        ("PATCH", f"/tasks/{UNKNOWN}", {"GET", "DELETE"}),
        ("POST", f"/tasks/{UNKNOWN}/stream", {"GET"}),
        ("DELETE", f"/tasks/{UNKNOWN}/chunks", {"GET"}),
        ("POST", "/functions", {"GET"}),
        ("PUT", "/functions/count", {"GET"}),
        ("POST", "/health/live", {"GET"}),
        ("TRACE", "/health/ready", {"GET"}),
    ],
)
async def test_a_wrong_method(api: Api, method: str, path: str, allowed: set[str]) -> None:
    """405, and the header Allow names what is right."""
    answer = await get(api, path, method=method)
    problem(answer, 405, "method-not-allowed")
    assert allowed <= set(re.split(r",\s*", answer.headers["allow"]))
    assert method not in answer.headers["allow"]


@pytest.mark.parametrize(
    "path",
    [
        "/tasks",
        f"/tasks/{UNKNOWN}",
        f"/tasks/{UNKNOWN}/stream",
        f"/tasks/{UNKNOWN}/chunks?wait=45",
        "/functions",
        "/functions/count",
        "/health/live",
        "/health/ready",
        "/schema",
        "/nope",
    ],
)
async def test_head_and_options(api: Api, path: str) -> None:
    """Both are answered at once and without a body, whatever they are answered."""
    head, options = [await get(api, path, method=method) for method in ("HEAD", "OPTIONS")]
    assert head.status_code < 500
    assert head.content == b""
    if path == "/nope":
        problem(options, 404, "not-found")
    else:
        assert (options.status_code, options.content) == (204, b"")
        assert "OPTIONS" in options.headers["allow"]


async def test_a_stream_that_is_running_is_not_held_by_head(client: httpx.AsyncClient, redis: Redis) -> None:
    """HEAD of a live stream, and of a long-poll on it, ends at once."""
    task_id = await start(client, "count", to=1_000_000, every=0.01)
    await events(client, task_id, most=1)
    for path in ("stream", "chunks?after=999999&wait=45"):
        async with asyncio.timeout(DEADLINE_S):
            assert (await client.head(f"/tasks/{task_id}/{path}")).status_code < 500
    await client.delete(f"/tasks/{task_id}")


async def test_bad_requests_leave_no_trace(redis_url: str, worker: Process, redis: Redis) -> None:
    """Not in the log, where an operator looks for faults of the server, and not in Redis: no task, no key."""
    before = await redis.zcard(keys.by_owner("anonymous"))
    bodies = [body for body, _ in [*MALFORMED.values(), *MISSHAPEN.values()]] + list(DEEP.values())
    bodies += [json.dumps({"function": name}).encode() for name in STRANGE_NAMES.values()]
    bodies += [count(b'"x"'), count(b"null"), sized(MAX_BODY + 1)]
    targets = [f"/tasks/{task_id}{route}" for task_id in NOT_IDS.values() for _, route in ROUTES]
    targets += [f"/tasks/{UNKNOWN}/stream?after={percent(value)}" for value in BAD_CURSORS.values()]
    targets += [
        "/tasks?x=y",
        f"/tasks/{UNKNOWN}/stream?after=1&after=2",
        f"/tasks/{UNKNOWN}/chunks?limit=0",
        f"/tasks/{UNKNOWN}/chunks?wait=x",
        "/nope",
        "/%00",
        "//",
    ]
    leaving = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"

    with api_process(redis_url) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            for body in bodies:
                assert 400 <= (await post(client, body)).status_code < 500
            where = urlsplit(api.url)
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(leaving)
            writer.close()
            await writer.wait_closed()
            for target in targets:
                assert 400 <= (await get(api, target)).status_code < 500
            for method in ("PUT", "HEAD", "OPTIONS", "TRACE"):
                assert (await client.request(method, "/tasks")).status_code < 500
            assert (await client.get("/health/ready")).status_code == 200
        api.process.stop()
        assert "Traceback" not in api.process.output
        assert "request failed" not in api.process.output
    assert await redis.zcard(keys.by_owner("anonymous")) == before


ANY_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)

# `words` ends by itself whatever its text is.
REQUEST: Final = b'{"function":"words","input":{"text":"a \\u0041 b"}}'


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Any bytes, any JSON, JSON in the shape of a request, or a good request with something cut out and put in."""
    kind = draw(st.sampled_from(["bytes", "json", "request", "spliced"]))
    if kind == "bytes":
        return draw(st.binary())
    if kind == "json":
        return json.dumps(draw(ANY_JSON)).encode()
    if kind == "request":
        names = st.sampled_from(["words", "nothing"]) | ANY_JSON
        return json.dumps({"function": draw(names), "input": draw(ANY_JSON | st.just({}))}).encode()
    begin, end = draw(st.integers(0, len(REQUEST))), draw(st.integers(0, len(REQUEST)))
    return REQUEST[:begin] + draw(st.binary(max_size=8)) + REQUEST[end:]


async def test_any_body_at_all(api: Api) -> None:
    """A task, or a problem that is the client's: never one of the server's."""
    with httpx.Client(base_url=api.url, timeout=DEADLINE_S) as client:

        @settings(max_examples=100, deadline=None)
        @given(bodies())
        def post(body: bytes) -> None:
            answer = client.post("/tasks", content=body, headers=JSON)
            if answer.status_code != 202:
                assert answer.status_code < 500, answer.text
                problem(answer, answer.status_code)

        post()


async def test_any_cursor_at_all(api: Api, finished: str) -> None:
    """A stream, its end, or a 400 that says what a cursor is: never a fault of the server's."""
    with httpx.Client(base_url=api.url, timeout=DEADLINE_S) as client:

        @settings(max_examples=100, deadline=None)
        @given(
            st.text() | st.integers().map(str),
            st.sampled_from(["stream?after", "stream?last_event_id", "chunks?after"]),
        )
        def follow(cursor: str, where: str) -> None:
            path, name = where.split("?")
            answer = client.get(f"/tasks/{finished}/{path}", params={name: cursor})
            if answer.status_code not in (200, 204):
                assert name in problem(answer, 400, "invalid-cursor")["detail"]

        follow()
