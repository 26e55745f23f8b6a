"""Requests with any headers and parameters: every answer is a documented one, and none is a fault of the server."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from plugins import keys
from plugins.declaration import Declaration
from tests.support.openapi import check
from tests.support.processes import Api, api_process
from tests.support.settings import NO_HEARTBEAT
from tests.support.tasks import note_ended
from tests.support.waiting import DEADLINE_S

TASK: Final = "/tasks/{task_id}"
START: Final = "/functions/{name}/tasks"
PAUSED: Final = "/functions/{name}/paused"

# Streams of tasks that no worker runs have no end.
STREAMS: Final = ("text/event-stream", "application/x-ndjson")


Headers = list[tuple[bytes, bytes]]
QueryValue = str | int | float | bool | None
Query = list[tuple[str, QueryValue]]


class Call(NamedTuple):
    """An operation, the parameters of its query, and a body that it takes."""

    method: str
    template: str
    query: tuple[str, ...] = ()
    body: bytes = b""


CALLS: Final = [
    Call("GET", "/tasks", ("limit", "before")),
    Call("GET", TASK),
    Call("GET", f"{TASK}/stream", ("after", "last_event_id", "lastEventId", "ticket")),
    Call("GET", f"{TASK}/chunks", ("after", "limit", "wait", "ticket")),
    Call("POST", f"{TASK}/tickets"),
    Call("DELETE", TASK),
    Call("POST", "/tasks", (), b'{"function":"count"}'),
    Call("POST", START, (), b"{}"),
    Call("GET", "/functions"),
    Call("GET", "/functions/{name}"),
    Call("PUT", PAUSED),
    Call("DELETE", PAUSED),
    Call("GET", "/health/live"),
    Call("GET", "/health/ready"),
]

# Values that mean something, by header and by parameter; hypothesis joins them, and finds others.
WORDS: Final[dict[str, list[str]]] = {
    "Accept": ["text/event-stream", "application/x-ndjson", "application/json", "*/*", ";q=0", ";q=0.5", ",", "text/*"],
    "Authorization": ["Bearer ", "Basic ", "abc", "dTpw", "Negotiate", ","],
    "Last-Event-ID": ["-1", "0", "1", "2", "3", "4", "tail", "9" * 18, "9" * 30, " ", "+1"],
    "Idempotency-Key": ["one", "two", '"', " ", "x" * 255, "x" * 256],
    "If-None-Match": ["*", '"one"', "W/", '"', ",", " "],
}
NUMBERS: Final = ["0", "1", "-1", "100", "1001", "0.5", ".", "1e3", "tail", "9" * 30, "٣", "\0", " ", "%"]

# The bytes that a header may have.
IN_A_HEADER: Final = st.characters(codec="latin-1", exclude_categories=["Cc"])


def of_words(words: list[str], alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Some of these words, one behind the other; or any text."""
    return st.lists(st.sampled_from(words), max_size=4).map("".join) | st.text(alphabet, max_size=40)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Call, Headers, Query]:
    """A call, its headers, some of them twice, and its query."""
    call = draw(st.sampled_from(CALLS))
    headers = [
        (name.encode(), value.strip(" \t").encode("latin-1"))
        for name, words in WORDS.items()
        for value in draw(st.lists(of_words(words, IN_A_HEADER), max_size=2))
    ]
    names = st.sampled_from([*call.query, "other"]) if call.query else st.text(max_size=5)
    query: Query = draw(
        st.lists(st.tuples(names, of_words(NUMBERS, st.characters(exclude_categories=["Cs"]))), max_size=3)
    )
    return call, headers, query


@pytest.fixture(scope="module")
def api(own_url: str) -> Iterator[Api]:
    """An API on a database of its own, with a function that is announced and no worker."""
    count = Declaration(name="count", description="", version="1", input={"type": "object"}, timeout=1)
    with Redis.from_url(own_url) as redis:
        redis.hset(keys.FUNCTIONS, "count", msgspec.json.encode(count).decode())
        redis.expire(keys.FUNCTIONS, keys.TASK_TTL_S)
        with api_process(own_url, **NO_HEARTBEAT) as api:
            yield api


@pytest.fixture(scope="module")
def ended(own_url: str) -> str:
    """A task that has ended; its id."""
    with Redis.from_url(own_url) as redis:
        return note_ended(redis)


@pytest.mark.parametrize("examples", [200, pytest.param(5_000, marks=[pytest.mark.chaos, pytest.mark.timeout(1_200)])])
def test_any_headers_and_parameters(api: Api, ended: str, examples: int) -> None:
    """Whatever a client sends in `Accept`, `Authorization`, `Last-Event-ID`, `Idempotency-Key`, `If-None-Match` and the
    query, its answer is one that the OpenAPI document has, and no fault is in the log.
    """
    with httpx.Client(base_url=api.url, timeout=DEADLINE_S) as client:
        document = client.get("/schema").json()

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests())
        def ask(request: tuple[Call, Headers, Query]) -> None:
            call, headers, query = request
            path = call.template.format(task_id=ended, name="count")
            asked = client.build_request(call.method, path, params=query, content=call.body or None)
            asked.headers = httpx.Headers([(n, v) for n, v in asked.headers.raw if n.lower() != b"accept"] + headers)
            answer = client.send(asked, stream=True)
            try:
                media_type = answer.headers.get("content-type", "").partition(";")[0]
                if call.method == "POST" and media_type in STREAMS:
                    assert answer.status_code == 200
                    return
                answer.read()
            finally:
                answer.close()
            check(document, answer, call.method, call.template)
            assert answer.status_code < 500, answer.text

        ask()
    assert "Traceback" not in api.process.output
