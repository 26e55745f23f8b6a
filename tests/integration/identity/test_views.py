"""Callers see the functions that they may start; only admins see more, and why a process is not ready."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from services.api.identity.api_keys import ISSUER, new_key
from services.api.identity.caller import owner_of
from tests.support.callers import known
from tests.support.client import follow
from tests.support.key_files import ALL, KeyFile, bearer

pytestmark = pytest.mark.anyio

SECRET: Final = "secret_recipe.py"


class Keys(NamedTuple):
    """Keys of callers with different views."""

    counter: str  # may start `count`
    writer: str  # may start `words`
    starter: str  # may start all
    nothing: str  # may start none
    watcher: str  # an admin that may start none
    admin: str  # may do everything


@pytest.fixture
async def some(callers: httpx.AsyncClient, key_file: KeyFile) -> Keys:
    """Those keys, which the API knows."""
    some = Keys(
        key_file.add("ada", "tasks", "functions:count"),
        key_file.add("bob", "tasks", "functions:words"),
        key_file.add("cyd"),
        key_file.add("dan", "tasks"),
        key_file.add("eve", "admin"),
        key_file.add("root", *ALL),
    )
    await known(callers, *some)
    return some


@pytest.fixture
async def broken(redis: Redis) -> AsyncIterator[str]:
    """The name of a source that no worker could load."""
    said = {"source": SECRET, "error": "SyntaxError", "at": int((await redis.time())[0]) * 1_000}
    await redis.hset(keys.BROKEN, SECRET, json.dumps(said))
    await redis.expire(keys.BROKEN, keys.BROKEN_TTL_S)
    yield SECRET
    await redis.hdel(keys.BROKEN, SECRET)


async def names_in(client: httpx.AsyncClient, key: str) -> tuple[set[str], set[str]]:
    """The functions of the list, and those of the OpenAPI document, as this caller gets them."""
    listed = (await client.get("/functions", headers=bearer(key))).json()["functions"]
    document = (await client.get("/schema", headers=bearer(key))).json()
    described = {name.split(".")[1] for name in document["components"]["schemas"] if name.startswith("function.")}
    assert {path for path in document["paths"] if path.startswith("/functions/") and "{" not in path} == {
        f"/functions/{name}/tasks" for name in described
    }
    return {each["name"] for each in listed}, described


async def test_a_caller_sees_what_it_may_start(callers: httpx.AsyncClient, some: Keys) -> None:
    """In the list and in the OpenAPI document, down to the components; an admin sees all."""
    assert await names_in(callers, some.counter) == ({"count"}, {"count"})
    assert await names_in(callers, some.writer) == ({"words"}, {"words"})
    assert await names_in(callers, some.nothing) == (set(), set())
    listed, described = await names_in(callers, some.starter)
    assert {"count", "words", "chat"} <= listed == described
    assert await names_in(callers, some.watcher) == await names_in(callers, some.admin) == (listed, described)


@pytest.mark.parametrize("path", ["/functions", "/schema", "/schema/openapi.json"])
async def test_documents_of_callers_that_alternate(
    callers: httpx.AsyncClient, some: Keys, broken: str, path: str
) -> None:
    """No caller gets another's document, nor 304 for another's tag; each gets 304 for its own, again and again."""
    first = {key: await callers.get(path, headers=bearer(key)) for key in some}
    tags = {key: answer.headers["etag"] for key, answer in first.items()}
    assert (broken in first[some.watcher].text) == (path == "/functions")
    # Callers of one view have one document, and one tag. Only admins see what is broken.
    assert len(set(tags.values())) == (5 if path == "/functions" else 4)
    for _ in range(2):
        for key in some:
            for other in some:
                answer = await callers.get(path, headers=bearer(key) | {"If-None-Match": tags[other]})
                same = tags[key] == tags[other]
                assert answer.status_code == (304 if same else 200)
                assert without_times(answer) == (b"" if same else without_times(first[key]))
                assert answer.headers["etag"] == tags[key]
                assert answer.headers["cache-control"] == "private, no-cache"


def without_times(answer: httpx.Response) -> bytes:
    """The document, without the times at which workers announced the same once more."""
    return re.sub(rb'"announced_at":\d+', b"", answer.content)


async def problem_of(client: httpx.AsyncClient, key: str, name: str) -> Any:
    """The problem with which GET of a function is answered, without its name."""
    answer = await client.get(f"/functions/{name}", headers=bearer(key))
    assert answer.status_code == 404
    return json.loads(answer.text.replace(name, "NAME"))


async def test_a_function_that_is_not_the_callers_is_unknown(callers: httpx.AsyncClient, some: Keys) -> None:
    """The answer is that for a function that there is not, and names only what the caller may start."""
    assert (await callers.get("/functions/count", headers=bearer(some.counter))).status_code == 200
    assert (await callers.get("/functions/count", headers=bearer(some.watcher))).status_code == 200
    for key, told in ((some.writer, ["words"]), (some.nothing, [])):
        foreign, none = await problem_of(callers, key, "count"), await problem_of(callers, key, "cout")
        assert foreign == none
        assert foreign["known"] == told
        assert "more" not in foreign
    # A name that no function can have is answered 404 to all, and tells no more.
    answer = await callers.post("/tasks", json={"function": "c o u n t"}, headers=bearer(some.writer))
    assert (answer.status_code, answer.json()["known"]) == (404, ["words"])


async def test_to_see_a_function_is_not_to_start_it(callers: httpx.AsyncClient, some: Keys) -> None:
    """To start one that is not permitted is 403 and names the scope, whether there is such a function or not."""
    for key in (some.writer, some.nothing):
        for name in ("count", "cout"):
            refused = await callers.post("/tasks", json={"function": name, "input": {"to": 1}}, headers=bearer(key))
            assert (refused.status_code, refused.json()["scope"]) == (403, f"functions:{name}")
    refused = await callers.post("/functions/count/tasks", json={"to": 1}, headers=bearer(some.watcher))
    assert (refused.status_code, refused.json()["scope"]) == (403, "tasks")


async def test_only_an_admin_sees_what_is_broken(
    callers: httpx.AsyncClient, client: httpx.AsyncClient, some: Keys, broken: str
) -> None:
    """Others get an empty list: sources have names, and errors tell of code. Without authentication all see it."""
    for key in some:
        told = (await callers.get("/functions", headers=bearer(key))).json()["broken"]
        assert [each["source"] for each in told] == ([broken] if key in (some.watcher, some.admin) else [])
    assert broken in (await client.get("/functions")).text


async def test_only_an_admin_is_told_what_is_not_ready(
    callers: httpx.AsyncClient, client: httpx.AsyncClient, some: Keys, broken: str
) -> None:
    """Every probe is answered; without a credential, with a bad one and with a usual one it learns `ok` or `not ok`."""
    bad = [{}, bearer(new_key()[0]), {"X-API-Key": "x y"}, {"Authorization": "Basic eDp5"}]
    for headers in [*bad, bearer(some.starter), bearer(some.nothing)]:
        answer = await callers.get("/health/ready", headers=headers)
        assert answer.status_code == 200
        assert answer.json() == {"redis": "ok", "hub": "ok", "functions": "not ok", "memory": "ok"}
        assert (await callers.get("/health/live", headers=headers)).json() == {"status": "ok"}
    for told in (
        await callers.get("/health/ready", headers=bearer(some.watcher)),
        await client.get("/health/ready"),
    ):
        assert told.json()["functions"].endswith("broken: GET /functions has them")


async def test_a_function_knows_its_owner(
    callers: httpx.AsyncClient, client: httpx.AsyncClient, key_file: KeyFile
) -> None:
    """All keys of an owner are one; another owner is another. Without authentication it is one."""
    ada, again, eve = (key_file.add(owner) for owner in ("ada", "ada", "eve"))
    await known(callers, ada, again, eve)

    async def told(api: httpx.AsyncClient, key: str | None) -> list[Any]:
        headers = bearer(key) if key else {}
        task_id = (await api.post("/functions/whose/tasks", json={}, headers=headers)).json()["task_id"]
        api.headers.update(headers)
        try:
            return (await follow(api, task_id))[0]
        finally:
            for name in headers:
                del api.headers[name]

    assert await told(callers, ada) == await told(callers, again) == [owner_of(ISSUER, "ada")]
    assert await told(callers, eve) == [owner_of(ISSUER, "eve")]
    assert await told(client, None) == ["anonymous"]
