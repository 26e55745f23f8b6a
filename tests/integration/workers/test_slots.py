"""How many messages a worker reads: as many as it has room for, and no more."""

import asyncio
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events, follow, start
from tests.support.messages import drained
from tests.support.processes import worker_process
from tests.support.redis_servers import Full
from tests.support.settings import QUICK
from tests.support.waiting import until
from tests.support.workers import freeze, thaw

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def reads(own: Redis) -> int:
    """How often workers have asked this server for messages."""
    stats: Any = await own.info("commandstats")
    return int(stats.get("cmdstat_xreadgroup", {}).get("calls", 0))


@pytest.mark.parametrize("slots", [1, 3])
async def test_a_worker_leaves_what_it_cannot_run(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, slots: int
) -> None:
    """Ten tasks wait for a worker with room for some: the others stay on the queue, for the next worker."""
    ids = [await start(own_client, "count", to=2, every=3_600) for _ in range(10)]
    with worker_process(own_url, "--max-async-tasks", str(slots), **QUICK):
        for task_id in ids[:slots]:
            await events(own_client, task_id, most=1)
        before = await reads(own)
        (group,) = await own.xinfo_groups(keys.QUEUE)
        assert (group["pending"], await own.xlen(keys.QUEUE)) == (0, 10 - slots)
        with worker_process(own_url, **QUICK):
            for task_id in ids[slots:]:
                await events(own_client, task_id, most=1)
            assert await reads(own) > before
            for task_id in ids:
                assert (await own_client.delete(f"/tasks/{task_id}")).status_code == 202
                await follow(own_client, task_id)
            await drained(own)


async def test_a_worker_with_room_reads_them_together(own_url: str, own_client: httpx.AsyncClient, own: Redis) -> None:
    """A long queue costs a worker a few reads, not one for each; and slots that were used are used again."""
    ids = await asyncio.gather(*(start(own_client, "count", to=1) for _ in range(300)))
    before = await reads(own)
    with worker_process(own_url, "--max-async-tasks", "50", **QUICK) as worker:

        async def over() -> bool:
            return not await own.zcard(keys.OPEN)

        async def details() -> object:
            still = await own.zrange(keys.OPEN, 0, -1)
            return await states(own, still), await own.xinfo_groups(keys.QUEUE), worker.output

        await until(over, "no task is open", details=details)
        for task_id in ids:
            assert (await follow(own_client, task_id))[1] == "done"
        assert await reads(own) - before < 150
        await drained(own)


async def test_a_full_redis_does_not_make_a_worker_hoard(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, full: Full
) -> None:
    """While claims are refused, a worker holds as many messages as it has slots; when there is room, all tasks run at
    once: none waits until its message is taken for abandoned.
    """
    with worker_process(own_url, "--max-async-tasks", "2", **QUICK) as worker:
        freeze(worker)
        ids = [await start(own_client, "count", to=1) for _ in range(10)]
        await full.on()
        thaw(worker)
        await asyncio.to_thread(worker.wait_for, r"(?s)(refused by redis, retrying[^\n]*operation=claim.*){4}")
        (group,) = await own.xinfo_groups(keys.QUEUE)
        assert (group["pending"], await own.xlen(keys.QUEUE)) == (2, 10)
        await full.off()
        async with asyncio.timeout(10):  # seconds; a message is abandoned after 30
            for task_id in ids:
                assert (await follow(own_client, task_id))[1] == "done"
        await drained(own)


async def states(own: Redis, ids: Any) -> list[Any]:
    """The metadata of these tasks."""
    return [await own.hgetall(keys.metadata(task_id.decode())) for task_id in ids]
