"""A worker whose log is no longer its own, or no longer whole: it stops, and nothing is lost in silence."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import append, entries, keys
from tests.support.client import events, follow, start
from tests.support.files import appeared
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


class Gated:
    """A task that has yielded once and waits for its gate."""

    def __init__(self, client: httpx.AsyncClient, redis: Redis, folder: Path) -> None:
        self._client = client
        self._redis = redis
        self._gate, self._note = folder / "gate", folder / "note"
        self.task_id = ""

    async def start(self) -> None:
        """Start it, and wait for its first chunk."""
        self.task_id = await start(self._client, "gated", gate=str(self._gate), note=str(self._note))
        await events(self._client, self.task_id, most=1)

    async def open_gate(self) -> None:
        """Let it yield once more; return when its clean-up has run."""
        await asyncio.to_thread(self._gate.touch)
        await self.cleaned_up()

    async def cleaned_up(self) -> None:
        """Wait until its clean-up has run."""
        await appeared(self._note)

    async def write(self, event: str, attempt: int, data: object) -> None:
        """Append to its log as another process would, without telling the worker."""
        script = self._redis.register_script(append.SCRIPT)
        line = entries.encode(event, attempt, 1, entries.now_ms(), data)
        assert await script(**append.arguments(self.task_id, 1, attempt, line)) == 2

    async def log(self) -> list[tuple[str, int]]:
        """Events and attempts of what stands in its log."""
        lines = [json.loads(line) for line in await self._redis.lrange(keys.log(self.task_id), 0, -1)]
        return [(line["event"], line["attempt"]) for line in lines]


@pytest.fixture
async def gated(client: httpx.AsyncClient, redis: Redis, tmp_path: Path) -> AsyncIterator[Gated]:
    """Such a task, ended after the test."""
    task = Gated(client, redis, tmp_path)
    await task.start()
    yield task
    await client.delete(f"/tasks/{task.task_id}")


async def test_a_newer_attempt_stops_the_older(gated: Gated) -> None:
    """A worker that was replaced writes nothing more, and its function stops even though it is silent by then."""
    await gated.write("attempt", 2, {"attempt": 2, "keeps": False})
    await gated.open_gate()
    assert await gated.log() == [("chunk", 1), ("attempt", 2)]


async def test_an_end_that_the_worker_did_not_hear_of_stops_it(gated: Gated) -> None:
    """A cancel whose call got lost stops the function at its next chunk; nothing comes after the end."""
    await gated.write("cancelled", 1, {"by": "somebody"})
    await gated.open_gate()
    assert await gated.log() == [("chunk", 1), ("cancelled", 1)]


async def test_a_cancel_that_nobody_called_out_is_learnt_of_at_the_renewal(gated: Gated, redis: Redis) -> None:
    """A silent function whose task was ended elsewhere stops within a renewal of its lease."""
    await gated.write("cancelled", 1, {"by": "somebody"})
    await redis.hset(keys.metadata(gated.task_id), "status", "cancelled")
    await gated.cleaned_up()


async def test_a_log_that_redis_lost_is_announced(gated: Gated, client: httpx.AsyncClient, redis: Redis) -> None:
    """A log that vanished under its writer ends as `log_lost`: it never begins again at 0 as if nothing had been."""
    await redis.delete(keys.log(gated.task_id))
    await gated.open_gate()
    chunks, end, why = await follow(client, gated.task_id)

    assert (chunks, end, why["code"]) == ([], "failed", "log_lost")

    async def failed() -> bool:
        return bool((await client.get(f"/tasks/{gated.task_id}")).json()["status"] == "failed")

    await until(failed)


async def test_a_renewal_keeps_the_log_of_a_silent_function(gated: Gated, redis: Redis) -> None:
    """A function may be silent for longer than a log is kept: its lease renews the log's lifetime."""
    await redis.expire(keys.log(gated.task_id), 20)

    async def renewed() -> bool:
        return await redis.ttl(keys.log(gated.task_id)) > 20

    await until(renewed)
