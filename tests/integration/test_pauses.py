"""Everything stands still for longer than a lease and goes on, as on a machine that is saved and resumed."""

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import client_of, events, follow, start, status_of
from tests.support.files import notes, open_gate
from tests.support.processes import Process, api_process, worker_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import QUICK
from tests.support.waiting import until
from tests.support.workers import freeze, thaw

pytestmark = pytest.mark.anyio

# Longer than a lease of `QUICK` and the second by which the index is late, in seconds: every task is due.
PAUSE_S: Final = 3.5

# A task whose worker seems dead is failed without retries, and runs again with them. So many tasks of each kind.
FUNCTIONS: Final = ["waits", "waits_again"]
EACH: Final = 6

# A task that does not exist. Recovery removes it from the index, after it has looked at those before it.
LAST: Final = "f" * 32


@pytest.mark.parametrize("all_stop", [True, False], ids=["workers stop", "workers run on"])
async def test_a_pause_is_not_a_death(tmp_path: Path, all_stop: bool) -> None:
    """Redis and the API are frozen for longer than a lease, with or without the workers. The API wakes up first, and
    looks at the tasks: none of them counts as lost, and none runs twice.
    """
    gate, folder = tmp_path / "gate", tmp_path / "notes"
    folder.mkdir()
    with EmbeddedRedis() as server, ExitStack() as stack:
        workers = [stack.enter_context(worker_process(server.url, **QUICK)) for _ in range(2)]
        api = stack.enter_context(api_process(server.url, **QUICK))
        async with client_of(api) as client, Redis.from_url(server.url) as redis:
            given: dict[str, Any] = {"folder": str(folder), "gate": str(gate), "chunks": 1}
            task_ids = [await start(client, function, **given) for function in FUNCTIONS * EACH]
            for task_id in task_ids:
                await events(client, task_id, most=1)

            assert server.process is not None
            stopped = workers if all_stop else []
            await frozen([api.process, server.process, *stopped])
            thaw(server.process)
            await redis.zadd(keys.OPEN, {LAST: int(time.time())})
            thaw(api.process)
            await looked(redis)
            for worker in stopped:
                thaw(worker)

            open_gate(gate)
            for task_id in task_ids:
                assert await follow(client, task_id) == ([0, "after"], "done", {"chunks": 2})
                assert (await status_of(client, task_id))["attempt"] == 1
            assert len(notes(folder, "begun.*")) == len(task_ids)


async def frozen(processes: list[Process]) -> None:
    """Freeze them all, and let the pause last."""
    for process in processes:
        freeze(process)
    await asyncio.sleep(PAUSE_S)


async def looked(redis: Redis) -> None:
    """Wait until recovery has looked at every task that was due."""

    async def gone() -> bool:
        return await redis.zscore(keys.OPEN, LAST) is None

    await until(gone, "recovery has looked at every task that was due")
