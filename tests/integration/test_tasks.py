"""Rarer uses than guide/ shows: tails, long-polls, keys at odd moments; and how a task ends."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events, follow, start
from tests.support.processes import Process, api_process, worker_process
from tests.support.tasks import end_noted

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def test_tail_shows_only_what_comes(client: httpx.AsyncClient, redis: Redis) -> None:
    """`after=tail` begins with now."""
    task_id = await start(client, "count", to=30, every=0.02)
    await events(client, task_id, most=5)
    answer = await client.get(f"/tasks/{task_id}/stream?after=tail")

    first = int(answer.text.partition("\nid: ")[2].partition("\n")[0])
    assert first >= 5
    assert f"id: {first}\ndata: {first + 1}\n\n" in answer.text
    assert answer.text.endswith('event: done\ndata: {"chunks":30}\n\n')


async def test_a_long_poll_answers_with_what_is_new(client: httpx.AsyncClient, redis: Redis, tmp_path: Path) -> None:
    """`wait` holds the answer until there is an entry, and ends with an empty page where there is none in time."""
    task_id = await start(client, "count", to=3, every=0.3)
    seen, after = [], -1
    while True:
        page = (await client.get(f"/tasks/{task_id}/chunks?wait=20&after={after}")).json()
        assert page["entries"], "an answer before there was anything new"
        seen += [entry["event"] for entry in page["entries"]]
        after = page["next"]
        if page["ended"]:
            break
    assert seen == ["chunk", "chunk", "chunk", "done"]

    silent = await start(client, "silent", note=str(tmp_path / "note"))
    await events(client, silent, most=1)
    page = (await client.get(f"/tasks/{silent}/chunks?wait=0.2&after=0")).json()
    assert page == {"entries": [], "next": 0, "ended": False}
    await client.delete(f"/tasks/{silent}")


@pytest.mark.parametrize("chunks", [1, 255, 256, 512, 513, 2_000])
async def test_a_function_that_never_waits(client: httpx.AsyncClient, redis: Redis, chunks: int) -> None:
    """A burst that ends at once arrives whole, however it fills the buffer and the groups."""
    task_id = await start(client, "burst", chunks=chunks)
    assert await follow(client, task_id) == (list(range(chunks)), "done", {"chunks": chunks})


async def test_a_function_that_yields_nothing(client: httpx.AsyncClient, redis: Redis) -> None:
    """It is done, with no chunks."""
    assert await follow(client, await start(client, "nothing")) == ([], "done", {"chunks": 0})


@pytest.mark.parametrize("what", ["object", "nan", "surrogate", "nested"])
async def test_a_function_that_yields_what_is_not_json(client: httpx.AsyncClient, redis: Redis, what: str) -> None:
    """The chunks before it are kept; the end says which one it was."""
    chunks, end, why = await follow(client, await start(client, "not_json", after=2, what=what))

    assert (chunks, end, why["code"]) == ([0, 1], "failed", "error")
    assert why["message"].startswith("chunk 2 is not JSON: ")


async def test_a_chunk_that_is_too_large(client: httpx.AsyncClient, redis: Redis) -> None:
    """A breach of a limit ends the task and says so; nothing is dropped in silence."""
    chunks, end, why = await follow(client, await start(client, "too_large", size=300_000))
    assert (chunks, end, why["code"]) == (["small"], "failed", "limit")
    assert "chunk 1 " in why["message"]
    assert "262144" in why["message"]


@pytest.mark.parametrize("after", [0, 3])
async def test_a_function_that_raises(client: httpx.AsyncClient, redis: Redis, worker: Process, after: int) -> None:
    """The client gets the message, before the first chunk or later; the traceback goes to the worker's log."""
    chunks, end, why = await follow(client, await start(client, "raises", after=after, message=f"broken {after}"))

    assert (chunks, end) == (list(range(after)), "failed")
    assert why == {"code": "error", "message": f"ValueError: broken {after}"}
    worker.wait_for(rf"Traceback(.|\n)*ValueError: broken {after}")


async def test_a_function_cannot_end_the_worker(client: httpx.AsyncClient, redis: Redis) -> None:
    """sys.exit() in a function ends its task, and the next task runs."""
    chunks, end, why = await follow(client, await start(client, "exits"))

    assert (chunks, end, why) == ([1], "failed", {"code": "error", "message": "SystemExit: 42"})
    assert (await follow(client, await start(client, "count", to=1)))[1] == "done"


async def test_a_function_that_cancels_itself(client: httpx.AsyncClient, redis: Redis) -> None:
    """No client asked for it: the task fails, with the reason."""
    chunks, end, why = await follow(client, await start(client, "cancels_itself"))
    assert (chunks, end, why["code"]) == ([1], "failed", "error")


async def test_a_function_that_takes_too_long(client: httpx.AsyncClient, redis: Redis) -> None:
    """Its time-out ends the task; its chunks stay."""
    chunks, end, why = await follow(client, await start(client, "slow"))
    assert (chunks, end, why["code"]) == ([1], "failed", "timeout")
    assert "0.3 s" in why["message"]


async def test_an_input_that_only_the_worker_can_refuse(client: httpx.AsyncClient, redis: Redis) -> None:
    """3.0 is an integer for JSON Schema, so it is one for the function."""
    assert (await follow(client, await start(client, "count", to=2.0)))[0] == [1, 2]


async def test_fifty_tasks_at_once_do_not_mix(client: httpx.AsyncClient, redis: Redis) -> None:
    """Each task's chunks go into its own log, and into no other."""
    ids = [await start(client, "own_id", times=50) for _ in range(50)]
    logs = await asyncio.gather(*(follow(client, task_id) for task_id in ids))

    assert [len(set(chunks)) for chunks, _, _ in logs] == [1] * 50
    assert len({chunks[0] for chunks, _, _ in logs}) == 50


async def test_a_task_that_writes_all_the_time_is_cancelled(client: httpx.AsyncClient, redis: Redis) -> None:
    """Cancel wins against a writer that fills the log as fast as it can."""
    task_id = await start(client, "eager")
    await events(client, task_id, most=1000)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202

    length = await redis.llen(keys.log(task_id))
    last = json.loads((await redis.lrange(keys.log(task_id), -1, -1))[0])
    assert (last["event"], last["seq"]) == ("cancelled", length - 1)
    assert (await client.get(f"/tasks/{task_id}")).json()["chunks"] == length - 1


async def test_an_expired_log_is_gone_but_not_the_task(client: httpx.AsyncClient, redis: Redis) -> None:
    """After the log's hour the stream answers 410, and the status still says how it ended."""
    task_id = await start(client, "count", to=2)
    await follow(client, task_id)
    assert 0 < await redis.ttl(keys.log(task_id)) <= 3600
    await end_noted(redis, task_id)
    await redis.delete(keys.log(task_id))

    for path in ("stream", "chunks"):
        answer = await client.get(f"/tasks/{task_id}/{path}")
        assert (answer.status_code, answer.json()["type"]) == (410, "urn:tailrace:problem:expired")
    status = (await client.get(f"/tasks/{task_id}")).json()
    assert (status["status"], status["end"]) == ("done", {"chunks": 2})
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 200


async def test_a_queue_that_refuses(own_database: str) -> None:
    """A task that cannot be queued is not created, and its client is told to come back; with the same key it may."""
    with worker_process(own_database), api_process(own_database) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client, Redis.from_url(own_database) as other:
            await other.delete(keys.QUEUE)
            await other.set(keys.QUEUE, "not a queue", ex=60)
            body = {"function": "count", "input": {"to": 1}}
            key = {"Idempotency-Key": "refused once"}
            answer = await client.post("/tasks", json=body, headers=key)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert answer.json()["type"] == "urn:tailrace:problem:unavailable"
            assert (await client.get("/tasks")).json()["tasks"] == []
            assert await other.zcard(keys.OPEN) == 0

            await other.delete(keys.QUEUE)
            task_id = (await client.post("/tasks", json=body, headers=key)).json()["task_id"]
            assert await follow(client, task_id) == ([1], "done", {"chunks": 1})


async def test_a_repeat_of_what_has_ended_queues_nothing(client: httpx.AsyncClient, redis: Redis) -> None:
    """A client may ask for its task by the same POST as often as it likes: no worker hears of it."""
    body, key = {"function": "count", "input": {"to": 1}}, {"Idempotency-Key": uuid4().hex}
    task_id = (await client.post("/tasks", json=body, headers=key)).json()["task_id"]
    await follow(client, task_id)
    queued: Any = await redis.xinfo_stream(keys.QUEUE)
    again = (await client.post("/tasks", json=body, headers=key)).json()
    assert (again["task_id"], again["status"]) == (task_id, "done")
    since: Any = await redis.xinfo_stream(keys.QUEUE)
    assert since["entries-added"] == queued["entries-added"]


async def test_a_deploy_between_a_request_and_its_repeat(client: httpx.AsyncClient, redis: Redis) -> None:
    """A client comes back for its task though the function has other parameters and limits by now, or is gone; and as
    often as it comes back to the stream of one that waits, nothing is queued.
    """

    async def deployed(name: str, **changed: Any) -> None:
        declaration = json.loads(await redis.hget(keys.FUNCTIONS, "count") or b"")
        await redis.hset(keys.FUNCTIONS, name, json.dumps(declaration | {"name": name} | changed))

    async def queued() -> Any:
        return (await redis.xinfo_stream(keys.QUEUE))["entries-added"]

    name, key = "deployed.again", {"Idempotency-Key": uuid4().hex}
    body = {"function": name, "input": {"to": 1}}
    await deployed(name)
    try:
        task_id = (await client.post("/tasks", json=body, headers=key)).json()["task_id"]
        await deployed(name, input={"type": "object", "required": ["from"], "properties": {}}, concurrency=1)
        again = await client.post("/tasks", json=body, headers=key)
        assert (again.status_code, again.json().get("task_id")) == (202, task_id)
        assert await redis.keys(f"{keys.LIMIT_PREFIX}{name}:*") == []
        assert (await client.post("/tasks", json=body)).status_code == 400

        before = await queued()
        going_on = key | {"Accept": "text/event-stream", "Last-Event-ID": "0"}
        async with client.stream("POST", "/tasks", json=body, headers=going_on) as response:
            assert (response.status_code, response.links["status"]["url"]) == (200, f"/tasks/{task_id}")
        assert await queued() == before
    finally:
        await redis.hdel(keys.FUNCTIONS, name)
    again = await client.post("/tasks", json=body, headers=key)
    assert (again.status_code, again.json().get("task_id")) == (202, task_id)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202


async def test_own_tasks_are_listed(own_database: str) -> None:
    """All of them, newest first, page by page, with the state they have now; none is skipped between two pages."""
    with worker_process(own_database), api_process(own_database) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client, Redis.from_url(own_database) as other:
            assert (await client.get("/tasks")).json() == {"tasks": [], "next": None}
            ids = []
            for number in range(5):
                ids.append(await start(client, "count", to=number))
                await follow(client, ids[-1])
            # Two that were created in the same millisecond, at the edge of a page.
            await other.zadd(keys.by_owner("anonymous"), {ids[2]: 1_000, ids[3]: 1_000, ids[1]: 999, ids[0]: 998})
            listed, before = [], ""
            while before is not None:
                page = (await client.get(f"/tasks?limit=2&before={before}")).json()
                listed += [task["task_id"] for task in page["tasks"]]
                before = page["next"]

            assert sorted(listed) == sorted(ids)
            assert listed[0] == ids[4]
            assert listed[3:] == [ids[1], ids[0]]
            newest = (await client.get("/tasks?limit=1")).json()["tasks"][0]
            assert newest == (await client.get(f"/tasks/{ids[4]}")).json()
            assert (await client.get(f"/tasks?before={'0' * 32}")).json() == {"tasks": [], "next": None}
            assert (await client.get("/tasks?before=*")).json()["type"] == "urn:tailrace:problem:invalid-before"
            assert (await client.get("/tasks?limit=0")).json()["type"] == "urn:tailrace:problem:invalid-limit"
