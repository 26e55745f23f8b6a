"""Tasks whose records another program, or another release, has written: each kind of damage, at each call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import append, entries, keys, metadata
from tests.support.backlog import lost
from tests.support.canaries import CANARY
from tests.support.client import client_of
from tests.support.processes import Api, api_process
from tests.support.settings import ALERT
from tests.support.tasks import closed, note
from tests.support.waiting import DEADLINE_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

LINES: Final = {"Accept": "application/x-ndjson"}

# Entries of a log before it is damaged.
LENGTH: Final = 3

Damage = Callable[[Redis, str], Awaitable[Any]]


@pytest.fixture(scope="module")
def api(own_url: str) -> Iterator[Api]:
    """An API on a database of its own."""
    with api_process(own_url, **ALERT) as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API."""
    async with client_of(api) as client:
        yield client


async def noted(redis: Redis, end: str | None = None) -> str:
    """Note a task with some entries, as both services write it, and list it; its id."""
    task_id = await note(redis, "count", to=LENGTH)
    await redis.zadd(keys.by_owner("anonymous"), {task_id: entries.now_ms()})
    await redis.expire(keys.by_owner("anonymous"), keys.TASK_TTL_S)
    await write(redis, task_id, *range(LENGTH))
    if end:
        await write(redis, task_id, {"chunks": LENGTH}, event=end)
    return task_id


async def write(redis: Redis, task_id: str, *values: Any, event: str = "chunk") -> None:
    """Append entries with these data."""
    length = await redis.llen(keys.log(task_id))
    lines = [entries.encode(event, 1, seq, 1, value) for seq, value in enumerate(values, length)]
    answer = await redis.register_script(append.SCRIPT)(**append.arguments(task_id, length, 1, *lines))
    assert answer == length + len(lines)


def field(name: Any, value: Any) -> Damage:
    """Write this value into a field of the metadata."""
    return lambda redis, task_id: redis.hset(keys.metadata(task_id), name, value)


def last(line: bytes) -> Damage:
    """Write this line in the place of the last entry."""
    return lambda redis, task_id: redis.lset(keys.log(task_id), -1, line)  # type: ignore[arg-type]  # it may be bytes


def another_type(key: Callable[[str], str]) -> Damage:
    """Write a string in the place of this key."""
    return lambda redis, task_id: redis.set(key(task_id), "nothing of ours", ex=60)


# As a line of the log begins.
HEAD: Final = b'{"event":"%b","attempt":1,"seq":%d,"at":1,"data":%b}'

UNREADABLE: Final[dict[str, Damage]] = {
    "a time is none": field(metadata.CREATED_AT, "soon"),
    "a number is none": field(metadata.ATTEMPT, "first"),
    "a field is no text": field(metadata.VERSION, b"\xff\xfe"),
    "the recorded end is no JSON": field(metadata.END, "{"),
    "the recorded end is no object": field(metadata.END, "[1]"),
    "the recorded end counts no chunks": field(metadata.END, '{"chunks":"many"}'),
    "the recorded end is deep": field(metadata.END, "[" * 100_000),
    "the log is none": another_type(keys.log),
    "the last entry is no JSON": last(b"{"),
    "the last entry is empty": last(b""),
    "the last entry has fields of another release": last(b'{"v":2,"kind":"chunk"}'),
    "the last entry is deep": last(b'{"event":"chunk","attempt":1,"seq":2,"at":1,"data":' + b"[" * 400),
    "the last entry is no text": last(HEAD % (b"chunk", 2, b'"\xff"')),
    "the last entry has several lines": last(HEAD % (b"chunk", 2, b'{\n\n"event":"done"}')),
    "the name of the last entry is a frame": last(HEAD % (rb"x\ndata: 1\n\nevent: done", 2, b"1")),
    "the last entry is of another place": last(HEAD % (b"done", 0, b'{"chunks":0}')),
    "a long last entry is none": last(b"x" * 5_000),
    "a long last entry is of another place": last(HEAD % (b"chunk", 0, b'"%b"' % (b"x" * 5_000))),
    "the end is longer than any": last(HEAD % (b"done", 2, b'{"chunks":2,"x":"%b"}' % (b"x" * 70_000))),
    "the end is no object": last(HEAD % (b"done", 2, b"5")),
}

# There is no task for its owner any more.
UNKNOWN: Final[dict[str, Damage]] = {
    "the metadata are none": another_type(keys.metadata),
    "the owner is no text": field(metadata.OWNER, b"\xff\xfe"),
    "the owner is another": field(metadata.OWNER, "anon\nymous"),
}

CALLS: Final = [
    ("GET", "", {}),
    ("GET", "/stream", {}),
    ("GET", "/stream", LINES),
    ("GET", "/stream?after=1", {}),
    ("GET", "/chunks", {}),
    ("GET", "/chunks?after=tail&wait=1", {}),
    ("DELETE", "", {}),
]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [(each, "unreadable-task") for each in UNREADABLE.values()] + [(each, "unknown-task") for each in UNKNOWN.values()],
    ids=[*UNREADABLE, *UNKNOWN],
)
async def test_a_task_that_cannot_be_read(
    api: Api, client: httpx.AsyncClient, own: Redis, damage: Damage, kind: str
) -> None:
    """Every call for it is answered 404 at once, and says why. The list goes on without it. The log says it once."""
    good = await noted(own)
    task_id = await noted(own)
    for key in (keys.metadata(task_id), keys.log(task_id)):
        await own.expire(key, 60)
    await damage(own, task_id)

    for _ in range(2):
        for method, path, headers in CALLS:
            answer = await client.request(method, f"/tasks/{task_id}{path}", headers=headers)
            assert answer.status_code == 404, (method, path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == f"urn:tailrace:problem:{kind}"
        listed = await client.get("/tasks?limit=100")
        assert listed.status_code == 200, listed.text
        ids = [each["task_id"] for each in listed.json()["tasks"]]
        assert good in ids
        assert task_id not in ids
    said = [line for line in api.process.output.splitlines() if task_id in line and "not readable" in line]
    assert len(said) == len(set(said)) <= 2
    assert kind == "unknown-task" or said
    assert "Traceback" not in api.process.output


SKIPPED: Final = {
    "no JSON": b"{",
    "deep": b'{"event":"progress","attempt":1,"seq":1,"at":1,"data":' + b"[" * 100_000,
    "no text": HEAD % (b"progress", 1, b'"\xff"'),
    "several lines": HEAD % (b"progress", 1, b'{\n\n"event":"done"}'),
    "a frame as its name": HEAD % (rb"x\ndata: 1\n\nevent: done", 1, b"1"),
}


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "running"])
@pytest.mark.parametrize("line", SKIPPED.values(), ids=SKIPPED)
async def test_an_entry_that_cannot_be_read(
    api: Api, client: httpx.AsyncClient, own: Redis, line: bytes, ended: bool
) -> None:
    """It is skipped wherever it stands in a log, in every format; readers get all others, and the end."""
    task_id = await noted(own, "done" if ended else None)
    await own.execute_command("LSET", keys.log(task_id), 1, line)  # type: ignore[no-untyped-call]  # as redis-py has it

    async def lines(headers: dict[str, str]) -> list[str]:
        answer = await client.get(f"/tasks/{task_id}/stream", headers=headers)
        assert answer.status_code == 200
        return answer.text.splitlines()

    if ended:
        streams = await asyncio.gather(lines({}), lines(LINES))
    else:
        following = asyncio.gather(lines({}), lines(LINES))
        await until(lambda: subscribed(own, task_id), "both streams are followed")
        await write(own, task_id, {"chunks": LENGTH}, event="done")
        streams = await following
    frames, stored = streams
    assert [each for each in frames if each.startswith("id:")] == ["id: 0", "id: 2", "id: 3"]
    assert [each for each in frames if each.startswith("event:")] == ["event: done"]
    assert [each.encode() for each in stored if each] == [await own.lindex(keys.log(task_id), seq) for seq in (0, 2, 3)]
    page = (await client.get(f"/tasks/{task_id}/chunks")).json()
    assert [each["seq"] for each in page["entries"]] == [0, 2, 3]
    assert (page["next"], page["ended"]) == (3, True)
    said = [each for each in api.process.output.splitlines() if task_id in each and "entry not readable" in each]
    assert len(said) == 1


# An entry that cannot be read. No line of the log has a part of it.
PRIVATE: Final = f'{{"data":"{CANARY}"'.encode()


async def subscribed(redis: Redis, task_id: str) -> bool:
    """Whether an API follows the task."""
    ((_, count),) = await redis.pubsub_numsub(keys.channel(task_id))
    return bool(count)


@pytest.mark.parametrize("headers", [{}, LINES], ids=["SSE", "NDJSON"])
@pytest.mark.parametrize(
    "damage", [another_type(keys.log), last(PRIVATE), lambda redis, task_id: redis.rpush(keys.log(task_id), PRIVATE)],
    ids=["no log", "the last entry is replaced", "an entry behind the last"],
)  # fmt: skip
async def test_a_stream_that_becomes_unreadable(
    client: httpx.AsyncClient, own: Redis, damage: Damage, headers: dict[str, str]
) -> None:
    """It breaks off, without an end and within a heartbeat; the client that comes back is told."""
    task_id = await noted(own)
    stream = client.stream("GET", f"/tasks/{task_id}/stream", headers=headers)
    async with asyncio.timeout(DEADLINE_S), stream as answer:
        await until(lambda: subscribed(own, task_id), "the stream is followed")
        await damage(own, task_id)
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
    answer = await client.get(f"/tasks/{task_id}/stream", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailrace:problem:unreadable-task")


async def test_a_foreign_member_of_the_list(client: httpx.AsyncClient, own: Redis) -> None:
    """A member of an owner's list that is no task's id is skipped."""
    task_id = await noted(own)
    later = entries.now_ms() * 2
    members: dict[Any, float] = {b"\xff\xfe": later, "x": later}
    await own.zadd(keys.by_owner("anonymous"), members)
    answer = await client.get("/tasks")
    assert (answer.status_code, answer.json()["tasks"][0]["task_id"]) == (200, task_id)
    await own.delete(keys.by_owner("anonymous"))


async def test_a_foreign_member_of_the_index(api: Api, own: Redis) -> None:
    """A member of the index of open tasks that is no text is removed, and recovery goes on with the others."""
    task_id = await lost(own)
    foreign: dict[Any, float] = {b"\xff\xfe": 0}
    await own.zadd(keys.OPEN, foreign)
    await closed(own, task_id)
    await until(lambda: absent(own, b"\xff\xfe"), "the other member is gone")
    assert "Traceback" not in api.process.output


async def absent(own: Redis, member: bytes) -> bool:
    """Whether the index of open tasks lacks this member."""
    return await own.zscore(keys.OPEN, member) is None


async def test_a_list_of_another_type(client: httpx.AsyncClient, own: Redis) -> None:
    """An owner's list is answered 503 while its key is of another type: it is not as if there were no tasks."""
    await own.delete(keys.by_owner("anonymous"))
    await own.set(keys.by_owner("anonymous"), "nothing of ours", ex=60)
    answer = await client.get("/tasks")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tailrace:problem:unavailable")
    await own.delete(keys.by_owner("anonymous"))
