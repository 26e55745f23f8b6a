"""Tasks and their owners: no call tells a caller of a task of another owner, by its answer or by what it costs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import httpx
import msgspec
import pytest
from litestar.plugins.problem_details import ProblemDetailsException
from redis.asyncio import Redis

from plugins import append, entries, keys, metadata
from services.api.identity.api_keys import ISSUER
from services.api.identity.caller import ALL_FUNCTIONS, ANYONE, STRANGER, TASKS, USUAL, Caller, owner_of
from services.api.redis_client import run_script
from services.api.tasks.idempotency import fingerprint_of, reservation_of
from services.api.tasks.loader import TaskLoader
from services.api.tasks.task import page_of, read
from tests.support.callers import known
from tests.support.client import client_of, follow, start, until_ready
from tests.support.key_files import ALL, KeyFile, bearer
from tests.support.processes import api_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import NO_HEARTBEAT
from tests.support.tasks import note

pytestmark = pytest.mark.anyio

# Calls of a task: the method, and the end of the path.
CALLS: Final = [
    ("GET", ""),
    ("HEAD", ""),
    ("GET", "/stream"),
    ("HEAD", "/stream"),
    ("GET", "/stream?after=5"),
    ("GET", "/chunks"),
    ("GET", "/chunks?wait=45&after=1"),
    ("DELETE", ""),
    ("DELETE", "?purge=true"),
]

UNKNOWN: Final = "0" * 32

# Commands that an API sends by itself.
ITS_OWN: Final = {"info", "time", "ping", "publish", "client|setname", "hello", "select", "auth", "subscribe"}

# Bytes in which Redis answers those, within a test; and of a large entry. An entry may have 256 KiB.
NOISE: Final = 32_768
CHUNK: Final = 255_000


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A Redis that nothing else asks."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
async def quiet(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    """A client of it; it is empty."""
    async with Redis.from_url(server.url) as redis:
        await redis.flushall()
        yield redis


async def calls_of(redis: Redis) -> dict[str, int]:
    """How often each command was run, but for those that an API sends by itself."""
    stats = await redis.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    return {name: count for name, count in counts.items() if name not in ITS_OWN}


async def sent(redis: Redis) -> int:
    """How many bytes the server has answered with."""
    return int((await redis.info("stats"))["total_net_output_bytes"])


async def large(redis: Redis, owner: str, *, ended: bool) -> str:
    """A task of this owner with the largest input and the largest log entries, and perhaps a long end; its id."""
    task_id = await note(redis, "f")
    fields: metadata.Fields = {metadata.OWNER: owner, metadata.INPUT: "x" * 64_000, metadata.RESERVATION: "x" * 200}
    await redis.hset(keys.metadata(task_id), mapping=fields)
    await redis.set(keys.task_input(task_id), "x" * 64_000, ex=60)
    for seq in range(3):
        line = entries.encode("chunk", 1, seq, entries.now_ms(), "x" * CHUNK)
        await run_script(redis, append.SCRIPT, **append.arguments(task_id, seq, 1, line))
    if ended:
        line = entries.encode("failed", 1, 3, 7, {"code": "error", "message": "x" * 60_000})
        await run_script(redis, append.SCRIPT, **append.arguments(task_id, 3, 1, line))
    return task_id


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The counts that have changed, and by how much."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


@pytest.fixture
async def strict(server: EmbeddedRedis, quiet: Redis, key_file: KeyFile) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that asks for keys, and of which nothing else asks that Redis."""
    settings = {"TAILRACE_AUTH": "keys", "TAILRACE_KEYS_FILE": str(key_file.path)}
    settings |= NO_HEARTBEAT | {"TAILRACE_PROBE_S": "3600", "TAILRACE_SCAN_S": "3600"}
    with api_process(server.url, **settings) as api:
        async with client_of(api) as client:
            await until_ready(client)
            yield client


@pytest.mark.parametrize("ended", [False, True])
async def test_a_foreign_task_costs_what_an_unknown_one_costs(
    strict: httpx.AsyncClient, quiet: Redis, key_file: KeyFile, ended: bool
) -> None:
    """Every call has the same answer for both, with the same headers, and asks Redis the same, however large it is."""
    eve = key_file.add("eve")
    await known(strict, eve)
    task_id = await large(quiet, owner_of(ISSUER, "ada"), ended=ended)
    answers = []
    for each in (UNKNOWN, task_id):
        asked, before = await calls_of(quiet), await sent(quiet)
        told = []
        for method, path in CALLS:
            answer = await strict.request(method, f"/tasks/{each}{path}", headers=bearer(eve))
            headers = {name: value for name, value in answer.headers.items() if name != "date"}
            told.append((answer.status_code, answer.content, headers))
        # The only commands of the script: it reads the owner, and nothing else.
        assert changed(asked, await calls_of(quiet)) == {"eval": len(CALLS), "hget": len(CALLS)}
        assert await sent(quiet) - before < NOISE
        answers.append(told)
    assert answers[0] == answers[1]
    assert {status for status, _, _ in answers[0]} == {404}
    assert await quiet.llen(keys.log(task_id)) == (4 if ended else 3)


@pytest.mark.parametrize("ended", [False, True])
async def test_to_the_byte(quiet: Redis, ended: bool) -> None:
    """Redis answers as much for a foreign task as for one that there is not. Its owner's look-up costs more."""
    loader, task_id = TaskLoader(quiet), await large(quiet, "ada", ended=ended)
    costs = []
    for each, owner in ((UNKNOWN, "eve"), (task_id, "eve"), (task_id, "ada")):
        caller = Caller(owner=owner, scopes=USUAL)
        before = await sent(quiet)
        for _ in range(100):
            try:
                assert (await loader.load(each, caller)).owner == "ada"
            except ProblemDetailsException:
                assert owner == "eve"
        costs.append(await sent(quiet) - before)
    # The count itself is written in digits: a few bytes more or less in all.
    assert abs(costs[0] - costs[1]) < 16
    assert costs[2] > costs[0] + 10_000


async def test_callers_share_a_round_trip_but_no_answer(quiet: Redis) -> None:
    """An admin, the owner, another owner and one without rights ask at once, in any order, and for several tasks."""
    hers, his = [await large(quiet, owner, ended=False) for owner in ("ada", "eve")]
    callers = {
        "ada": Caller(owner="ada", scopes=USUAL),
        "eve": Caller(owner="eve", scopes=USUAL),
        "root": Caller(owner="root", scopes=frozenset({"admin"})),
        "anyone": ANYONE,
        "stranger": STRANGER,
    }
    loader = TaskLoader(quiet)
    first = asyncio.create_task(loader.load(UNKNOWN, ANYONE))
    await asyncio.sleep(0)
    before = await calls_of(quiet)
    for order in (list(callers), list(callers)[::-1]):
        asked = [(name, task_id) for name in order for task_id in (hers, his, UNKNOWN)]
        answers = await asyncio.gather(
            *(loader.load(task_id, callers[name]) for name, task_id in asked), return_exceptions=True
        )
        got = {pair for pair, answer in zip(asked, answers, strict=True) if not isinstance(answer, BaseException)}
        assert got == {("ada", hers), ("eve", his), ("root", hers), ("root", his)}
    assert changed(before, await calls_of(quiet))["eval"] <= 3
    await asyncio.gather(first, return_exceptions=True)


async def test_a_list_has_no_other_owners_task(quiet: Redis) -> None:
    """Another program has put foreign tasks into an owner's list: they stay out of it, an admin's too."""
    own, foreign = [await large(quiet, owner, ended=False) for owner in ("eve", "ada")]
    await quiet.zadd(keys.by_owner("eve"), {own: 1, foreign: 2, UNKNOWN: 3})
    await quiet.expire(keys.by_owner("eve"), 60)
    tasks, _ = await page_of(quiet, "eve", None, 10)
    assert [task.task_id for task in tasks] == [own]
    assert await read(quiet, foreign, "eve") is None


async def test_a_reservation_of_another_owner(strict: httpx.AsyncClient, quiet: Redis, key_file: KeyFile) -> None:
    """The same key of two owners is two tasks. One that another program has forged leads to no foreign task."""
    ada, eve, root = key_file.add("ada"), key_file.add("eve"), key_file.add("root", *ALL)
    await known(strict, root)
    declared = {"name": "f", "description": "", "version": "1", "timeout": 1, "input": {"type": "object"}}
    await quiet.hset(keys.FUNCTIONS, "f", json.dumps(declared))
    await quiet.expire(keys.FUNCTIONS, 60)

    async def post(key: str, text: str, **headers: str) -> httpx.Response:
        sent = bearer(key) | {"Idempotency-Key": text} | headers
        return await strict.post("/tasks", json={"function": "f"}, headers=sent)

    tasks = [(await post(key, "k")).json()["task_id"] for key in (ada, eve, root, ada, eve, root)]
    assert len(set(tasks)) == 3
    assert tasks[:3] == tasks[3:]
    for owner, key in (("eve", eve), ("root", root)):
        name = keys.idempotency(owner_of(ISSUER, owner), "forged")
        await quiet.set(name, reservation_of(tasks[0], fingerprint_of("f", b"{}")), ex=60)
        answer = await post(key, "forged")
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:tailrace:problem:idempotency-key-reused")
        assert tasks[0] not in answer.text
        resumed = await post(key, "forged", Accept="text/event-stream", **{"Last-Event-ID": "0"})
        assert resumed.status_code == 404


ODD: Final = [
    "a",
    "b:c",
    "a:b",
    "c",
    ":",
    "a b",
    " a",
    "a\nb",
    "a\r\n",
    "a\0b",
    "*",
    "anonymous",
    "{a}",
    "é",
    "e\u0301",
    "\U0001f600",
    "x" * 200,
    "x" * 199,
    owner_of(ISSUER, "a"),
]


async def test_owners_of_any_name(callers: httpx.AsyncClient, key_file: KeyFile, redis: Redis) -> None:
    """Colons, spaces, line ends, other alphabets, 200 characters: each is an owner, with its own tasks, its own key and
    its own list; and no name in Redis has any part of it.
    """
    made = {owner: key_file.add(owner) for owner in ODD}
    await known(callers, *made.values())
    started = {}
    for owner, key in made.items():
        headers = bearer(key) | {"Idempotency-Key": "b:c"}
        answer = await callers.post("/functions/count/tasks", json={"to": 1}, headers=headers)
        started[owner] = answer.json()["task_id"]
    assert len(set(started.values())) == len(ODD)
    for owner, key in made.items():
        listed = (await callers.get("/tasks", headers=bearer(key))).json()["tasks"]
        assert [task["task_id"] for task in listed] == [started[owner]]
    names = [name.decode() async for name in redis.scan_iter()]
    for prefix in (keys.by_owner(""), keys.open_by_owner("")):
        owners = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        assert {owner_of(ISSUER, owner) for owner in ODD} <= owners
        assert all(re.fullmatch("[0-9a-f]{32}|anonymous", owner) for owner in owners)
    assert all(re.fullmatch("idempotency:[0-9a-f]{64}", name) for name in names if name.startswith("idempotency:"))


def test_no_two_owners_are_one(tmp_path: Path) -> None:
    """Neither by their names, nor by their issuers, nor as texts that are no Unicode; nor is any `anonymous`."""
    pairs = [(issuer, subject) for issuer in ("", "i", "i:", ISSUER) for subject in [*ODD, "", "\ud800", "\udfff"]]
    digests = [owner_of(issuer, subject) for issuer, subject in pairs]
    assert len(set(digests)) == len(pairs)
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in digests)
    key_file = KeyFile(tmp_path / "keys.json")
    for owner in ODD:
        key_file.add(owner)
    written = msgspec.json.decode(key_file.path.read_bytes())["keys"].values()
    assert [each["owner"] for each in written] == ODD


async def test_tasks_from_before_authentication(
    callers: httpx.AsyncClient, client: httpx.AsyncClient, key_file: KeyFile
) -> None:
    """They have the owner `anonymous`. At an API that asks for keys only an admin has them; at one that does not, no
    caller has a task of an owner.
    """
    usual, root = key_file.add("ada"), key_file.add("root", TASKS, ALL_FUNCTIONS, "admin")
    named = key_file.add("anonymous")
    await known(callers, usual, root, named)
    task_id = await start(client, "count", to=1)
    await follow(client, task_id)
    for key in (usual, named):
        for method, path in CALLS:
            answer = await callers.request(method, f"/tasks/{task_id}{path}", headers=bearer(key))
            assert answer.status_code == 404
    assert (await callers.get(f"/tasks/{task_id}", headers=bearer(root))).json()["status"] == "done"
    assert task_id not in (await callers.get("/tasks", headers=bearer(root))).text
    owned = await start(callers, "count", headers=bearer(usual), to=1)
    for method, path in CALLS:
        assert (await client.request(method, f"/tasks/{owned}{path}")).status_code == 404
    purged = await callers.delete(f"/tasks/{task_id}", params={"purge": "true"}, headers=bearer(root))
    assert purged.status_code == 204
    assert task_id not in (await client.get("/tasks")).text
