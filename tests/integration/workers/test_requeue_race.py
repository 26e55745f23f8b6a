"""Recovery puts a task back on the queue, and a worker is quicker than the rest of recovery's bookkeeping."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from plugins import keys, release
from services.api.settings import Settings
from services.api.tasks import recovery as recovery_module
from services.api.tasks.contact import Contact
from services.api.tasks.limits import Limiter
from services.api.tasks.recovery import Recovery
from services.api.tasks.task import RawTask, fetch
from services.worker.attempt.commands import Commands
from tests.support.files import left
from tests.support.processes import worker_process
from tests.support.settings import QUICK
from tests.support.tasks import note
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio


class UnhurriedPipeline(Pipeline):
    """Sends one command after the other. The one behind a message for the queue is sent when the function has begun."""

    folder: Path

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send them, and wait behind a message."""
        answers: list[Any] = []
        for arguments, _ in list(self.command_stack):
            self.command_stack = [(arguments, {})]
            answers += await super().execute(raise_on_error=raise_on_error)
            if "XADD" in str(arguments[1]):
                await left(self.folder, "begun.*")
        return answers


class Unhurried(Redis):
    """A client that goes on only when the function has begun whose message it has sent."""

    folder: Path

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Make one that does not hurry."""
        pipeline = UnhurriedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.folder = self.folder
        return pipeline


@pytest.fixture
async def unwatched(own_database: str) -> AsyncIterator[Redis]:
    """A client of a database that no API looks after."""
    async with Redis.from_url(own_database) as redis:
        yield redis


@pytest.fixture
async def recovery(own_database: str, folder: Path) -> AsyncIterator[Recovery]:
    """Recovery, in this process, with that client."""
    settings = Settings(lease_s=1e-9)
    async with Unhurried.from_url(own_database) as redis:
        assert isinstance(redis, Unhurried)
        redis.folder = folder
        contact = Contact(redis, settings.lease_s)
        yield Recovery(redis, Limiter(redis, settings.unclaimed_s), contact, settings)


@pytest.mark.parametrize(
    "was",
    [
        pytest.param({"queued_at": 1}, id="never claimed"),
        pytest.param({"status": "running", "attempt": 1, "claim": "lost", "lease_until": 1}, id="lost"),
    ],
)
async def test_the_lease_of_a_worker_that_is_quick_is_watched(
    unwatched: Redis, own_database: str, recovery: Recovery, folder: Path, was: dict[str, int | str]
) -> None:
    """A task that has a worker again is looked at when that worker's lease is over, not when a queue would be long."""
    seconds, _ = await unwatched.time()
    if "queued_at" in was:
        was = {"queued_at": (seconds - 1_000) * 1000}
    task_id = await note(unwatched, "ticks_again", folder=str(folder), to=2, every=[3600, 3600])
    await unwatched.hset(keys.metadata(task_id), mapping=was)  # type: ignore[arg-type]  # a dict of its keys
    await unwatched.zadd(keys.OPEN, {task_id: 0})
    with worker_process(own_database, **QUICK):
        await recovery.scan()
        due = await unwatched.zscore(keys.OPEN, task_id)
        lease_until = int(await unwatched.hget(keys.metadata(task_id), "lease_until") or 0)
    assert due is not None
    assert due <= lease_until / 1000 + 1


@pytest.mark.parametrize("pause_s", [0, 60])
async def test_a_task_that_has_failed_meanwhile(
    unwatched: Redis, own_database: str, monkeypatch: pytest.MonkeyPatch, pause_s: int
) -> None:
    """A worker claims a task that has waited for long, and releases it, while recovery puts off its look at it. It is
    looked at when it may be claimed again, not after as long again.
    """
    seconds, _ = await unwatched.time()
    task_id = await note(unwatched, "count", to=1)
    await unwatched.hset(keys.metadata(task_id), "queued_at", (seconds - 36_000) * 1000)
    await unwatched.zadd(keys.OPEN, {task_id: 0})

    async def fetch_before_it_failed(redis: Redis, task_ids: list[str]) -> list[RawTask]:
        tasks, commands = await fetch(redis, task_ids), Commands(redis, {})
        claim = await commands.claims.take(task_id, "quick", 15)
        assert claim is not None
        await commands.batcher.run_script(release.SCRIPT, **release.arguments(task_id, claim.token, pause_s))
        return tasks

    monkeypatch.setattr(recovery_module, "fetch", fetch_before_it_failed)
    settings = Settings()
    await Recovery(unwatched, Limiter(unwatched, 60), Contact(unwatched, settings.lease_s), settings).scan()
    due = await unwatched.zscore(keys.OPEN, task_id)
    assert due is not None
    assert due <= seconds + pause_s + DEADLINE_S
