"""A worker that is told to stop: its tasks end or go on elsewhere, and nothing stays behind with it."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, events, follow, start
from tests.support.files import left, notes, open_gate
from tests.support.logs import chunks, log_of, written
from tests.support.messages import drained
from tests.support.processes import api_process, worker_process
from tests.support.redis_servers import DURABLE, EmbeddedRedis
from tests.support.settings import QUICK
from tests.support.tasks import ended
from tests.support.waiting import DEADLINE_S, until
from tests.support.workers import holder

pytestmark = pytest.mark.anyio

# A grace that is over soon.
HASTY: Final = {**QUICK, "TAILRACE_DRAIN_S": "2", "TAILRACE_CLEAN_UP_S": "1"}

# Whatever Taskiq is told about waiting.
FLAGS: Final = [(), ("--wait-tasks-timeout", "60"), ("--max-async-tasks", "100", "--max-prefetch", "0")]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_runs_all_kinds_of_tasks_is_told_to_stop(
    own_url: str,
    own_client: httpx.AsyncClient,
    own: Redis,
    tmp_path: Path,
    gate: Path,
    flags: tuple[str, ...],
    number: signal.Signals,
) -> None:
    """Within the grace a short task is done. Then the long ones end: as `interrupted`, or on another worker where
    their policy allows it. Every clean-up has run, everything that was yielded is there, and the exit code is 0.
    """
    places = {name: tmp_path / name for name in ("short", "busy", "silent", "again", "on")}
    for place in places.values():
        place.mkdir()
    short, busy, silent, again, on = map(str, places.values())
    with worker_process(own_url, *flags, **HASTY) as leaving:
        ids = {
            "short": await start(own_client, "waits", folder=short, gate=str(gate), chunks=2),
            "busy": await start(own_client, "ticks", folder=busy, to=100_000, every=0.01),
            "silent": await start(own_client, "ticks", folder=silent, to=2, every=3600),
            "again": await start(own_client, "ticks_again", folder=again, to=400, every=[0.05, 0.005]),
            "on": await start(own_client, "ticks_on", folder=on, to=400, every=[0.05, 0.005]),
        }
        for task_id in ids.values():
            await written(own, task_id, 1)
        readers = {name: asyncio.create_task(events(own_client, task_id)) for name, task_id in ids.items()}
        with worker_process(own_url, *flags, **QUICK) as staying:
            leaving.signal(number)
            await asyncio.to_thread(leaving.wait_for, "draining")
            open_gate(gate)
            assert await asyncio.to_thread(leaving.wait) == 0
            for place in places.values():
                assert len(notes(place, "begun.1.*")) == len(notes(place, "cleaned.1.*")) == 1
            logs = {name: await ended(own, task_id) for name, task_id in ids.items()}
            for name in ("again", "on"):
                assert await holder(own, ids[name], [leaving, staying]) is staying
            seen = {name: await reader for name, reader in readers.items()}

    assert logs["short"] == [("chunk", 1, 0), ("chunk", 1, 1), ("chunk", 1, "after"), ("done", 1, {"chunks": 3})]
    for name in ("busy", "silent"):
        assert (logs[name][-1][0], logs[name][-1][2]["code"]) == ("failed", "interrupted")
        assert chunks(logs[name], 1) == list(range(1, len(logs[name])))
    before = chunks(logs["again"], 1)
    assert before == list(range(1, len(before) + 1))
    assert logs["again"][len(before)] == ("attempt", 2, {"attempt": 2, "keeps": False})
    assert chunks(logs["again"], 2) == list(range(1, 401))
    assert [value for event, _, value in logs["on"] if event == "chunk"] == list(range(1, 401))
    assert [entry for entry in logs["on"] if entry[0] == "attempt"] == [("attempt", 2, {"attempt": 2, "keeps": True})]
    assert {logs["again"][-1][:2], logs["on"][-1][:2]} == {("done", 2)}
    for name, events_seen in seen.items():
        assert [event.id for event in events_seen] == [str(seq) for seq in range(len(logs[name]))]


async def test_what_ends_in_the_grace_is_waited_for_no_longer(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """A worker with a long grace is gone as soon as its last task has ended."""
    with worker_process(own_url, **{**QUICK, "TAILRACE_DRAIN_S": "3600"}) as worker:
        task_id = await start(own_client, "ticks", folder=str(folder), to=40, every=0.05)
        await written(own, task_id, 1)
        worker.signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) == 0
    assert (await ended(own, task_id))[-1] == ("done", 1, {"chunks": 40})


async def test_a_grace_can_be_cut_short(own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path) -> None:
    """SIGQUIT ends what runs, though an hour of grace is left: its clean-up has run, and its readers hear of it."""
    with worker_process(own_url, **{**QUICK, "TAILRACE_DRAIN_S": "3600"}) as worker:
        task_id = await start(own_client, "ticks", folder=str(folder), to=2, every=3600)
        await written(own, task_id, 1)
        name: Any = await own.hget(keys.metadata(task_id), "worker")
        worker.signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait_for, "draining")
        os.kill(int(name.rpartition(b":")[2]), signal.SIGQUIT)
        assert await asyncio.to_thread(worker.wait) == 0
        assert len(notes(folder, "cleaned.*")) == 1
    log = await ended(own, task_id)
    assert (log[-1][0], log[-1][2]["code"]) == ("failed", "interrupted")


async def test_a_worker_that_is_leaving_takes_nothing_more(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path
) -> None:
    """A task that is started during the grace waits for another worker, and runs there at once and once."""
    with worker_process(own_url, **{**QUICK, "TAILRACE_DRAIN_S": "30"}) as leaving:
        first = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=1)
        await written(own, first, 1)
        leaving.signal(signal.SIGTERM)
        await asyncio.to_thread(leaving.wait_for, "draining")
        ids = [await start(own_client, "count", to=3) for _ in range(5)]
        with worker_process(own_url, **QUICK) as staying:
            # One message may be in the hands of the one that leaves: it comes back when that is gone.
            others = [asyncio.create_task(follow(own_client, task_id)) for task_id in ids]
            await until(lambda: all_but_one(others))
            open_gate(gate)
            assert await asyncio.to_thread(leaving.wait) == 0
            assert [await other for other in others] == [([1, 2, 3], "done", {"chunks": 3})] * 5
            for task_id in ids:
                assert await holder(own, task_id, [staying]) is staying
                assert (await ended(own, task_id))[-1][1] == 1
            await drained(own)
    assert (await ended(own, first))[-1][0] == "done"


async def all_but_one(tasks: Sequence["asyncio.Task[object]"]) -> bool:
    """Whether at most one of them is not done."""
    return sum(not task.done() for task in tasks) <= 1


@pytest.mark.parametrize("prefetch", [(), ("--max-prefetch", "5")])
async def test_a_queue_does_not_leave_with_one_of_two_workers(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path, prefetch: tuple[str, ...]
) -> None:
    """A hundred tasks, two workers with one slot each: both work. One is told to stop, and the other runs all that is
    left; no message waits for the worker that is gone.
    """
    flags = ("--max-async-tasks", "1", *prefetch)
    with worker_process(own_url, *flags, **QUICK) as one, worker_process(own_url, *flags, **QUICK) as other:
        workers = [one, other]
        started = (start(own_client, "ticks", folder=str(tmp_path), to=2, every=0.05) for _ in range(100))
        ids = await asyncio.gather(*started)
        async with asyncio.timeout(DEADLINE_S):
            for task_id in ids[:30]:
                await follow(own_client, task_id)
            by = Counter([(await holder(own, task_id, workers)).pid for task_id in ids[:30]])
            assert min(by[worker.pid] for worker in workers) >= 5, "one worker held what the other could have run"

            one.signal(signal.SIGTERM)
            assert await asyncio.to_thread(one.wait) == 0
            # An abandoned message comes again after 30 s; one that was handed back comes at once.
            outcomes = [await follow(own_client, task_id) for task_id in ids]
            await drained(own)
    assert outcomes == [([1, 2], "done", {"chunks": 2})] * 100
    assert len(notes(tmp_path, "begun.1.*")) == 100


async def test_redis_is_away_while_a_worker_leaves(folder: Path) -> None:
    """It cannot say how its tasks ended, and leaves all the same; their clean-ups run, and when Redis is back the
    tasks end or go on elsewhere.
    """
    with EmbeddedRedis(*DURABLE) as server, api_process(server.url, **QUICK) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client, Redis.from_url(server.url) as own:
            with worker_process(server.url, **HASTY) as worker:
                silent = await start(client, "ticks", folder=str(folder), to=2, every=3600)
                again = await start(client, "ticks_again", folder=str(folder), to=5, every=[3600, 0.01])
                for task_id in (silent, again):
                    await written(own, task_id, 1)
                server.kill()
                worker.signal(signal.SIGTERM)
                assert await asyncio.to_thread(worker.wait) == 0
                await left(folder, "cleaned.1.*", 2)
            server.start()
            with worker_process(server.url, **QUICK):
                async with Redis.from_url(server.url) as back:
                    logs = [await ended(back, task_id) for task_id in (silent, again)]
            assert (logs[0][-1][0], logs[0][-1][2]["code"]) == ("failed", "worker_lost")
            assert (chunks(logs[1], 2), logs[1][-1][0]) == ([1, 2, 3, 4, 5], "done")


async def test_redis_goes_while_a_worker_leaves(folder: Path) -> None:
    """The same where it goes after the worker was told."""
    with EmbeddedRedis() as server, api_process(server.url, **QUICK) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client, Redis.from_url(server.url) as own:
            with worker_process(server.url, **HASTY) as worker:
                silent = await start(client, "ticks", folder=str(folder), to=2, every=3600)
                await written(own, silent, 1)
                worker.signal(signal.SIGTERM)
                await asyncio.to_thread(worker.wait_for, "draining")
                server.kill()
                assert await asyncio.to_thread(worker.wait) == 0
                await left(folder, "cleaned.1.*")


async def test_two_signals_are_as_good_as_one(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """An impatient operator neither loses an end nor gets another exit code."""
    with worker_process(own_url, **HASTY) as worker:
        task_id = await start(own_client, "ticks", folder=str(folder), to=2, every=3600)
        await written(own, task_id, 1)
        worker.signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait_for, "draining")
        worker.signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) == 0
    assert [entry[2]["code"] for entry in (await ended(own, task_id))[1:]] == ["interrupted"]
    assert notes(folder, "cleaned.1.*")
    assert await log_of(own, task_id) == await ended(own, task_id)
    assert await own.zscore(keys.OPEN, task_id) is None
    assert data(await events(own_client, task_id)) == [1]


@pytest.mark.parametrize("pause_s", [0, 0.0001, 0.0005])
async def test_many_signals_at_the_same_moment(own_url: str, own_client: httpx.AsyncClient, pause_s: float) -> None:
    """Programs that start a worker pass a signal on that its process group has got already: it ends as for one."""
    with worker_process(own_url, **HASTY) as worker:
        for _ in range(20):
            for number in (signal.SIGTERM, signal.SIGINT):
                worker.signal(number)
                await asyncio.sleep(pause_s)
        assert await asyncio.to_thread(worker.wait) == 0
        assert worker.output.count("draining") == 1


async def test_a_thread_that_does_not_let_go(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path
) -> None:
    """A function blocks its thread when the worker is told to stop: its readers are told, and the process ends."""
    with worker_process(own_url, **HASTY) as worker:
        task_id = await start(own_client, "blocks_its_thread", gate=str(tmp_path / "never"))
        await until(lambda: running(own, task_id))
        worker.signal(signal.SIGTERM)
        _, end, why = await follow(own_client, task_id)
        assert (end, why["code"]) == ("failed", "interrupted")
        assert await asyncio.to_thread(worker.wait) == 0
        await drained(own)


async def running(own: Redis, task_id: str) -> bool:
    """Whether a worker has claimed it."""
    return await own.hget(keys.metadata(task_id), "status") == b"running"
