"""A log that Redis loses under its writer, as a whole or from its end: never begun again in silence."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import data, events, start
from tests.support.files import left, open_gate
from tests.support.logs import lines_of, written
from tests.support.processes import Process, worker_process
from tests.support.readers import Reader
from tests.support.settings import QUICK
from tests.support.tasks import ended

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

CHUNKS: Final = 5


@pytest.fixture(scope="module")
def one_worker(own_url: str) -> Iterator[Process]:
    """A worker for all of them."""
    with worker_process(own_url, **QUICK) as worker:
        yield worker


@pytest.mark.parametrize("remains", range(CHUNKS))
async def test_a_log_that_is_cut_under_its_writer(
    one_worker: Process, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path, remains: int
) -> None:
    """Wherever it is cut: the remaining entries stay, the end says `log_lost`, the function stops, and a reader gets
    `gap` and the remaining entries.
    """
    task_id = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=CHUNKS)
    await written(own, task_id, CHUNKS)
    reader = Reader(own_client, task_id)
    await reader.until(CHUNKS)
    before = await lines_of(own, task_id)
    await cut(own, task_id, remains)
    open_gate(gate)

    log = await ended(own, task_id)
    await left(folder, "cleaned.1.*")
    seen = await reader.until_end()
    status = (await own_client.get(f"/tasks/{task_id}")).json()

    assert (log[-1][0], log[-1][2]["code"]) == ("failed", "log_lost")
    assert (await lines_of(own, task_id))[:-1] == before[:remains]
    assert (status["status"], status["end"]["code"], status["chunks"]) == ("failed", "log_lost", remains)
    gaps = [index for index, event in enumerate(seen) if event.event == "gap"]
    assert len(gaps) == 1
    assert data(seen[: gaps[0]]) == list(range(CHUNKS))
    assert json.loads(seen[gaps[0]].data)["after"] == CHUNKS - 1
    # Readers of a log without entries are disconnected. They get the new log when they come back.
    assert remains == 0 or [event.id for event in seen[gaps[0] + 1 :]] == [str(seq) for seq in range(remains + 1)]
    assert [event.id for event in await events(own_client, task_id)] == [str(seq) for seq in range(remains + 1)]


@pytest.mark.parametrize("remains", range(CHUNKS))
async def test_a_reader_that_comes_back_to_a_log_that_was_cut(
    one_worker: Process, own_client: httpx.AsyncClient, own: Redis, folder: Path, gate: Path, remains: int
) -> None:
    """Its cursor lies beyond what there is: it is told so, unless the log has grown to that place again."""
    task_id = await start(own_client, "waits", folder=str(folder), gate=str(gate), chunks=CHUNKS)
    await written(own, task_id, CHUNKS)
    await cut(own, task_id, remains)
    open_gate(gate)
    await ended(own, task_id)

    answer = await own_client.get(f"/tasks/{task_id}/stream", headers={"Last-Event-ID": str(CHUNKS - 1)})
    if remains == CHUNKS - 1:  # the end stands where the last chunk stood: ids are indexes
        assert answer.status_code == 204
    else:
        assert "event: gap\n" in answer.text
        assert answer.text.count("event: failed\n") == 1


async def test_a_log_that_is_cut_while_its_writer_writes(
    one_worker: Process, own_client: httpx.AsyncClient, own: Redis, folder: Path
) -> None:
    """In the middle of a busy stream, at whatever place it happens to be."""
    task_id = await start(own_client, "ticks", folder=str(folder), to=100_000, every=0.001)
    await written(own, task_id, 50)
    await own.ltrim(keys.log(task_id), 0, 20)
    log = await ended(own, task_id)
    await left(folder, "cleaned.1.*")
    assert log[:-1] == [("chunk", 1, number) for number in range(1, 22)]
    assert (log[-1][0], log[-1][2]["code"]) == ("failed", "log_lost")


async def cut(own: Redis, task_id: str, remains: int) -> None:
    """Lose all of a log but so many entries."""
    if remains:
        await own.ltrim(keys.log(task_id), 0, remains - 1)
    else:
        await own.delete(keys.log(task_id))
