"""Reads of many tasks cost Redis what their answers have, however large inputs and chunks are."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
from litestar.plugins.problem_details import ProblemDetailsException
from redis.asyncio import Redis

from plugins import append, entries, keys, metadata
from services.api.foreign import UnreadableError
from services.api.identity.caller import ANYONE, USUAL, Caller
from services.api.redis_client import run_script
from services.api.tasks.loader import TaskLoader
from services.api.tasks.task import fetch, page_of, read
from tests.support.processes import api_process
from tests.support.tasks import note
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# Bytes of an input, and of a chunk. An entry may have 256 KiB.
INPUT: Final = 64_000
CHUNK: Final = 255_000

# Bytes of an answer of 100 tasks: what GET /tasks says of each, and some.
MOST: Final = 100_000


@pytest.fixture
async def redis(own_database: str) -> AsyncIterator[Redis]:
    """A client of a database that no process looks after."""
    async with Redis.from_url(own_database) as redis:
        yield redis


async def large(redis: Redis, count: int) -> list[str]:
    """Tasks of the owner `x` with an input and a last chunk of the largest kind."""
    ids = [await note(redis, "f") for _ in range(count)]
    # As the previous release wrote it; now an input is a key of its own.
    await redis.zadd(keys.by_owner("x"), {task_id: number for number, task_id in enumerate(ids)})
    await redis.expire(keys.by_owner("x"), 60)
    line = entries.encode("chunk", 1, 0, entries.now_ms(), "x" * CHUNK)
    for task_id in ids:
        await redis.hset(keys.metadata(task_id), mapping={metadata.OWNER: "x", metadata.INPUT: "x" * INPUT})
        await run_script(redis, append.SCRIPT, **append.arguments(task_id, 0, 1, line))
    return ids


async def sent(redis: Redis) -> int:
    """Bytes that the server has sent to all clients."""
    return int((await redis.info("stats"))["total_net_output_bytes"])


async def test_a_listing_reads_what_it_answers(redis: Redis) -> None:
    """A page of 100 tasks, each with the largest input and last chunk, costs Redis kilobytes, not 31 MB."""
    ids = await large(redis, 100)
    before = await sent(redis)
    tasks, _ = await page_of(redis, "x", None, 100)
    assert await sent(redis) - before < MOST
    assert [task.task_id for task in tasks] == ids[::-1]
    assert {(task.status, task.length, task.last_attempt, task.end) for task in tasks} == {("queued", 1, 1, None)}


def caller(owner: str) -> Caller:
    """The caller with the tasks of this owner."""
    return Caller(owner=owner, scopes=USUAL)


async def test_a_look_up_reads_what_it_answers(redis: Redis) -> None:
    """Requests of a hundred tasks at once, and those of tasks of another owner, and of tasks that do not exist."""
    loader, ids = TaskLoader(redis), await large(redis, 100)

    async def refused(task_id: str, owner: str) -> None:
        with pytest.raises(ProblemDetailsException):
            await loader.load(task_id, caller(owner))

    for requests in (
        [loader.load(task_id, caller("x")) for task_id in ids],
        [refused(task_id, "another") for task_id in ids],
        [refused(f"{number:032x}", "x") for number in range(100)],
    ):
        before = await sent(redis)
        await asyncio.gather(*requests)
        assert await sent(redis) - before < MOST


@pytest.mark.parametrize("recorded", ["queued", "running", "done"])
async def test_the_log_says_how_a_task_has_ended(redis: Redis, recorded: str) -> None:
    """Redis has evicted a part of its metadata, or an older release has recorded no end: the log has it."""
    task_id = await note(redis, "f")
    await redis.hset(keys.metadata(task_id), metadata.STATUS, recorded)
    line = entries.encode("failed", 1, 0, 7, {"code": "error", "message": "x" * 2_000})
    await run_script(redis, append.SCRIPT, **append.arguments(task_id, 0, 1, line))
    task = await read(redis, task_id)
    assert task is not None
    assert (task.status, task.end_line, task.end) == ("failed", line, entries.decode(line))


@pytest.mark.parametrize(("key", "error"), [(keys.metadata, ProblemDetailsException), (keys.log, UnreadableError)])
async def test_a_task_that_cannot_be_read_takes_no_other_with_it(redis: Redis, key: Any, error: type) -> None:
    """Requests that share its round trip get their tasks. The task itself is unknown if its metadata cannot be read."""
    odd, behind = await note(redis, "f"), await note(redis, "f")
    await redis.set(key(odd), "a string", ex=60)
    loader = TaskLoader(redis)
    answers = await asyncio.gather(*(loader.load(each, ANYONE) for each in (odd, behind)), return_exceptions=True)
    assert isinstance(answers[0], error)
    assert not isinstance(answers[1], BaseException)
    assert answers[1].task_id == behind


async def test_a_look_up_is_of_one_moment(redis: Redis) -> None:
    """No end comes between what a look-up reads of metadata and of the log: it is one command for fifty tasks."""
    ids = [await note(redis, "f") for _ in range(120)]
    before = (await redis.info("commandstats")).get("cmdstat_eval", {"calls": 0})["calls"]
    raw_tasks = await fetch(redis, ids)
    after = (await redis.info("commandstats"))["cmdstat_eval"]["calls"]
    assert (len(raw_tasks), after - before) == (120, 3)


async def test_many_listings_at_once(own_database: str, redis: Redis) -> None:
    """Twenty clients list a hundred large tasks again and again. Each gets its answer, and so does another client."""
    await large(redis, 100)
    members: Any = await redis.zrange(keys.by_owner("x"), 0, -1, withscores=True)
    await redis.zadd(keys.by_owner("anonymous"), dict(members))
    await redis.expire(keys.by_owner("anonymous"), 60)
    ids = [member.decode() for member, _ in members]
    for task_id in ids:
        await redis.hset(keys.metadata(task_id), metadata.OWNER, "anonymous")
    with api_process(own_database) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            before = await sent(redis)
            listings = [client.get("/tasks", params={"limit": 100}) for _ in range(60)]
            others = [client.get(f"/tasks/{task_id}") for task_id in ids[:20]]
            answers = await asyncio.gather(*listings, *others)
            cost = await sent(redis) - before
    assert {answer.status_code for answer in answers} == {200}
    assert {len(answer.json()["tasks"]) for answer in answers[:60]} == {100}
    assert cost < 80 * MOST
