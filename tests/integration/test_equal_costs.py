"""Requests that cost a client nothing cost the API, and Redis, about as little."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from services.api.announcements import Announcements
from services.api.app import create_app, lifespan
from services.api.catalog import Catalog
from services.api.http.documents import MAX_BYTES, MAX_VIEWS, Document, Views
from services.api.identity.caller import ANYONE
from services.api.routes import openapi
from services.api.settings import Settings
from tests.support.client import client_of, until_ready
from tests.support.processes import api_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import NO_HEARTBEAT

pytestmark = pytest.mark.anyio

MANY: Final = 200
LONG: Final = "x" * 16_384

# Bytes in which Redis answers what an API asks for by itself within a test.
NOISE: Final = 32_768


def declared(name: str, **more: Any) -> str:
    """The announcement of a function."""
    return json.dumps(
        {"name": name, "description": "", "version": "1", "timeout": 1, "input": {"type": "object"}, **more}
    )


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A Redis that nothing else asks."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def redis(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    """A client of it, with many functions announced, each with a long description."""
    async with Redis.from_url(server.url) as redis:
        await redis.flushall()
        names = [f"function_{number:03}" for number in range(MANY)]
        await redis.hset(keys.FUNCTIONS, mapping={name: declared(name, description=LONG) for name in names})
        yield redis


@pytest.fixture
async def client(server: EmbeddedRedis, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that uses it."""
    with api_process(server.url, **NO_HEARTBEAT, TAILRACE_PROBE_S="3600", TAILRACE_SCAN_S="3600") as api:
        async with client_of(api) as client:
            await until_ready(client)
            yield client


@pytest.fixture
async def inner(server: EmbeddedRedis, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API in the test's own process."""
    app = create_app(Settings(redis_url=server.url))
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Litestar types the messages
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def sent(redis: Redis) -> int:
    """How many bytes the server has answered with."""
    return int((await redis.info("stats"))["total_net_output_bytes"])


async def test_an_unknown_function(client: httpx.AsyncClient, redis: Redis) -> None:
    """Its answer reads no announcement, and has twenty names."""
    before = await sent(redis)
    for answer in (
        await client.post("/tasks", json={"function": "function_1999"}),
        await client.get("/functions/function_1999"),
    ):
        assert answer.status_code == 404
        assert answer.json()["known"] == [f"function_{number:03}" for number in (*range(100, 110), *range(190, 200))]
        assert answer.json()["more"] == MANY - 20
        assert len(answer.content) < 1_500
    assert await sent(redis) - before < NOISE


async def test_a_long_announcement(client: httpx.AsyncClient, redis: Redis) -> None:
    """An announcement of 20 MB, which no worker writes, is not read."""
    await redis.delete(keys.FUNCTIONS)
    await redis.hset(keys.FUNCTIONS, "long", declared("long", description="x" * 20_000_000))
    await redis.hset(keys.FUNCTIONS, "good", declared("good"))
    before = await sent(redis)
    assert [each["name"] for each in (await client.get("/functions")).json()["functions"]] == ["good"]
    assert (await client.get("/schema")).status_code == 200
    assert (await client.get("/functions/long")).status_code == 404
    assert (await client.post("/tasks", json={"function": "long"})).json()["known"] == ["good"]
    assert await sent(redis) - before < NOISE


Change = Callable[[Redis], Any]


async def announce(redis: Redis, name: str, **more: Any) -> None:
    """Announce a function as a worker does."""
    await redis.hset(keys.FUNCTIONS, name, declared(name, **more))


# By the documents that change with it.
CHANGES: Final[dict[str, tuple[Change, set[str]]]] = {
    "nothing": (lambda redis: redis.ping(), set()),
    "announced once more": (
        lambda redis: announce(redis, "function_000", description=LONG, announced_at=2**50),
        set(),
    ),
    "another version": (
        lambda redis: announce(redis, "function_000", description="new"),
        {"/functions", "/schema"},
    ),
    "a function more": (
        lambda redis: announce(redis, "more"),
        {"/functions", "/schema"},
    ),
    "a function less": (lambda redis: redis.hdel(keys.FUNCTIONS, "function_000"), {"/functions", "/schema"}),
    "paused": (lambda redis: redis.sadd(keys.PAUSED, "function_000"), {"/functions"}),
    "broken": (
        lambda redis: redis.hset(keys.BROKEN, "a.py", json.dumps({"source": "a.py", "error": "no", "at": 2**50})),
        {"/functions"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "changed"), CHANGES.values(), ids=CHANGES)
async def test_a_client_that_has_the_document(
    inner: httpx.AsyncClient, redis: Redis, monkeypatch: pytest.MonkeyPatch, change: Change, changed: set[str]
) -> None:
    """It is answered 304 until the document changes. The OpenAPI document is made once for each change."""
    made: list[int] = []
    make = openapi.with_functions

    def counted(*given: Any) -> Any:
        made.append(1)
        return make(*given)

    monkeypatch.setattr(openapi, "with_functions", counted)
    for path in ("/functions", "/schema"):
        first = await inner.get(path)
        assert (first.status_code, first.headers["cache-control"]) == (200, "private, no-cache")
        tag = first.headers["etag"]
        assert tag == (await inner.get(path)).headers["etag"]
        same = await inner.get(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        await change(redis)
        for _ in range(2):
            later = await inner.get(path, headers={"If-None-Match": tag})
            assert later.status_code == (200 if path in changed else 304)
            assert (later.headers["etag"] != tag) == (path in changed)
        await redis.delete(keys.PAUSED, keys.BROKEN)
        await redis.hset(keys.FUNCTIONS, "function_000", declared("function_000", description=LONG))
        await redis.hdel(keys.FUNCTIONS, "more")
    assert len(made) == (2 if "/schema" in changed else 1)


@pytest.mark.parametrize("given", ["", ",", '"', "W/", "x" * 8_000, '"' * 8_001, "\xff", '"*"'])
async def test_a_tag_that_is_none(inner: httpx.AsyncClient, given: str) -> None:
    """It is not the document's."""
    answer = await inner.get("/schema", headers=[(b"If-None-Match", given.encode("latin-1"))])
    assert answer.status_code == 200


async def test_a_document_is_made_once_per_state() -> None:
    """Each view is made when it is first asked for, and when it is asked for in another state than the last time.
    Requests that come while it is made wait for it.
    """
    views, made = Views(), []

    async def make() -> Any:
        made.append(1)
        await asyncio.sleep(0)
        return Document(b"", "")

    first, same = await asyncio.gather(views.of("a", [1], make), views.of("a", [1], make))
    assert first is same
    assert await views.of("b", [1, 2], make) is not first
    assert await views.of("a", [1], make) is first
    assert await views.of("a", [2], make) is not first
    assert len(made) == 3


@pytest.mark.parametrize(("size", "kept"), [(1, MAX_VIEWS), (MAX_BYTES // 4, 4), (2 * MAX_BYTES, 1)])
async def test_many_views(size: int, kept: int) -> None:
    """Those of the last requests are kept, by number and by bytes: callers with many views take no more memory."""
    views, made = Views(), []

    async def ask(view: int) -> None:
        async def make() -> Document:
            made.append(view)
            return Document(bytes(size), "")

        await views.of(view, view, make)

    for view in range(40):
        await ask(view)
    del made[:]
    for view in reversed(range(40 - kept, 40)):
        await ask(view)
    assert made == []
    await ask(39 - kept)
    assert made == [39 - kept]


@pytest.fixture
async def turn() -> AsyncIterator[Callable[[], int]]:
    """A function that returns how often the event loop has gone around."""
    turns = 0

    async def go_around() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    going = asyncio.create_task(go_around())
    yield lambda: turns
    going.cancel()


async def test_streams_go_on_while_announcements_are_decoded(redis: Redis, turn: Callable[[], int]) -> None:
    """Hundreds of functions may be new at once: the event loop goes around after each."""
    decoded_in: list[int] = []
    announcements = Announcements(redis, keys.FUNCTIONS, lambda *_: decoded_in.append(turn()))
    await announcements.read()
    assert len(set(decoded_in)) == MANY


async def test_streams_go_on_while_the_document_is_made(redis: Redis, turn: Callable[[], int]) -> None:
    """The event loop goes around after each function."""
    functions, app = await Catalog(redis).declarations(ANYONE), create_app(Settings())
    before = turn()
    await openapi.with_functions(app, functions)
    assert turn() - before >= MANY
