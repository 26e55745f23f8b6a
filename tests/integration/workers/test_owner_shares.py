"""A share of a worker's slots for each owner: one that starts many long tasks leaves slots for the others."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from plugins.limits import Ticket
from services.api.tasks.purge import purge_task
from tests.support.client import pause, resume
from tests.support.files import open_gate
from tests.support.messages import drained, message
from tests.support.owners import ALICE, BOB, caller_of, cancels_of, start_as
from tests.support.processes import worker_process
from tests.support.settings import NO_RENEWAL, QUICK
from tests.support.tasks import ended, note
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

TEN: Final = ("--max-async-tasks", "10")
HALF: Final = {"TAILRACE_OWNER_SLOTS": "50"}

# `count` is in the one folder, `stays` in the other.
EXAMPLES: Final = {"FUNCTIONS_PATH": "functions"}
TESTS: Final = {"FUNCTIONS_PATH": "tests/functions"}


class Line:
    """Tasks of `stays`, each of which notes when it begins and when it ends, and ends when it is told to."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self._redis = redis
        self._folder = folder
        self.file = folder / "line"
        self.file.touch()
        self._ids: dict[str, str] = {}

    def given(self, name: str) -> dict[str, str]:
        """The input of the task of this name."""
        return {"file": str(self.file), "name": name, "gate": str(self._folder / f"gate.{name}")}

    async def start(self, *names: str, owner: str = ALICE) -> list[str]:
        """Start these tasks; their ids."""
        for name in names:
            self._ids[name] = await start_as(self._redis, owner, "stays", **self.given(name))
        return [self._ids[name] for name in names]

    async def end(self, *names: str) -> None:
        """Let these tasks end, and wait until they are done."""
        self.open(*names)
        for name in names:
            assert (await ended(self._redis, self._ids[name]))[-1][0] == "done"

    def open(self, *names: str) -> None:
        """Let these tasks end."""
        for name in names:
            open_gate(self._folder / f"gate.{name}")

    @property
    def notes(self) -> list[str]:
        """The notes of the tasks."""
        return self.file.read_text().splitlines()

    @property
    def begun(self) -> list[str]:
        """The tasks that have begun, in their order."""
        return [line[2:] for line in self.notes if line.startswith("+")]

    @property
    def most(self) -> int:
        """How many have run at once."""
        running, most = 0, 0
        for line in self.notes:
            running += 1 if line.startswith("+") else -1
            most = max(most, running)
        return most

    async def until_begun(self, many: int) -> None:
        """Wait until so many have begun."""
        await until(lambda: len(self.begun) >= many, f"{many} have begun", details=self._details)

    async def _details(self) -> object:
        return self.notes, await self._redis.xlen(keys.QUEUE), await self._redis.zrange(keys.PARKED_BY_OWNER, 0, -1)


@pytest.fixture
async def own(own: Redis) -> AsyncIterator[Redis]:
    """That client; before and after the test nothing is paused or parked."""
    yield own
    await own.delete(keys.PAUSED, keys.PARKED_BY_OWNER)


@pytest.fixture
def line(own: Redis, tmp_path: Path, own_client: httpx.AsyncClient) -> Line:
    """A line of tasks, of functions that the API knows."""
    return Line(own, tmp_path)


def numbers(first: int, behind: int) -> list[str]:
    """Names of tasks."""
    return [str(number) for number in range(first, behind)]


async def parked(redis: Redis, many: int, owner: str = ALICE, function: str = "stays") -> None:
    """Wait until so many tasks of an owner are parked, and the queue is empty."""

    async def so_many() -> bool:
        return await redis.zcard(keys.parked_by_owner(owner, function)) == many

    await until(so_many, f"{many} are parked", details=lambda: redis.zcard(keys.parked_by_owner(owner, function)))
    await drained(redis)


async def added(redis: Redis) -> int:
    """How many messages there have been on the queue."""
    info: Any = await redis.xinfo_stream(keys.QUEUE)
    return int(info["entries-added"])


async def test_thirty_long_tasks_of_one_owner(own_url: str, own: Redis, line: Line) -> None:
    """Half of the slots run them, the others are free: a task of another owner starts at once. The thirty run in order,
    never more than five at once, though no regular scan helps; and nothing is left of their waiting.
    """
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF) as worker:
        await line.start(*numbers(0, 30))
        await parked(own, 25)
        assert "owner has its share of the slots" in worker.output
        bobs = await start_as(own, BOB, "count", to=2)
        assert (await ended(own, bobs))[-1] == ("done", 1, {"chunks": 2})
        assert len(line.begun) == 5
        for number in numbers(0, 30):
            await line.end(number)
        await drained(own)
    assert (sorted(line.begun[:5]), line.begun[5:]) == (numbers(0, 5), numbers(5, 30))
    assert line.most == 5
    assert not await own.exists(keys.parked_by_owner(ALICE, "stays"))


async def test_two_hundred_short_tasks_behind_the_share(own_url: str, own: Redis, line: Line) -> None:
    """They run one after the other as soon as there is room, though no regular scan helps."""
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        await line.start(*numbers(0, 5))
        await line.until_begun(5)
        ids = [await start_as(own, ALICE, "lines_up", file=str(line.file), line=f"+ {n}") for n in range(5, 200)]
        await parked(own, 195, function="lines_up")
        await line.end(*numbers(0, 5))
        for task_id in ids:
            assert (await ended(own, task_id))[-1][0] == "done"
        await drained(own)
        assert not await own.exists(keys.parked_by_owner(ALICE, "lines_up"))
    assert sorted(line.begun, key=int) == numbers(0, 200)


async def test_a_task_that_comes_later_waits_behind_those_that_are_parked(own_url: str, own: Redis, line: Line) -> None:
    """A place that becomes free is for the oldest, though another message of this owner is read before."""
    with worker_process(own_url, "--max-async-tasks", "4", **NO_RENEWAL, **HALF):
        await line.start(*numbers(0, 4))
        await parked(own, 2)
        for number in range(4, 20):
            await line.start(str(number))
            await line.end(str(number - 4))
        await line.end(*numbers(16, 20))
    assert line.begun[2:] == numbers(2, 20)


@pytest.mark.parametrize(
    ("owner", "settings", "most"),
    [(keys.ANONYMOUS, {}, 10), (ALICE, {}, 8), (keys.ANONYMOUS, HALF, 5), (ALICE, {"TAILRACE_OWNER_SLOTS": "100"}, 10)],
)
async def test_how_many_an_owner_may_have(
    own_url: str, own: Redis, line: Line, owner: str, settings: dict[str, str], most: int
) -> None:
    """Unset, the one owner of an API without authentication may have all slots, any other 80 %; set, both the same."""
    names = numbers(0, 12)
    with worker_process(own_url, *TEN, **NO_RENEWAL, **settings):
        await line.start(*names, owner=owner)
        await line.until_begun(most)
        if most < 10:
            await parked(own, 12 - most, owner)
        await line.end(*names)
    assert (line.most, sorted(line.begun, key=int)) == (most, names)


async def test_a_worker_with_one_slot(own_url: str, own: Redis, line: Line) -> None:
    """Its slot is for every owner, and no task is parked: the queue keeps their order."""
    with worker_process(own_url, "--max-async-tasks", "1", **NO_RENEWAL, **HALF) as worker:
        await line.start(*numbers(0, 3))
        await line.start("3", owner=BOB)
        await line.end(*numbers(0, 4))
        assert "task parked" not in worker.output
    assert line.begun == numbers(0, 4)


async def test_the_worker_dies_that_has_parked_them(own_url: str, own: Redis, line: Line) -> None:
    """Another one finds them, and runs them in order, though no regular scan helps."""
    with worker_process(own_url, *TEN, **QUICK, **HALF) as worker:
        ids = await line.start(*numbers(0, 12))
        await parked(own, 7)
        worker.kill()
    for task_id in ids[:5]:
        assert (await ended(own, task_id))[-1][2]["code"] == "worker_lost"
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        await line.until_begun(10)
        await line.end(*numbers(5, 12))
    assert (sorted(line.begun[5:10]), line.begun[10:]) == (numbers(5, 10), ["10", "11"])


async def test_a_second_worker_has_room(own_url: str, own: Redis, line: Line) -> None:
    """It takes tickets that the first one has parked: when it starts, and of those that are parked later."""
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        await line.start(*numbers(0, 8))
        await parked(own, 3)
        with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
            await line.until_begun(8)
            await parked(own, 0)
            await line.start(*numbers(8, 12))
            await line.until_begun(10)
            await parked(own, 2)
            before = await added(own)
            for _ in range(20):  # the workers do something else, and no task of the owner goes round
                await ended(own, await start_as(own, BOB, "is_short", chunks=1))
            assert await added(own) - before == 20
            await line.end(*numbers(0, 12))
    assert line.most <= 10


async def test_a_parked_task_is_cancelled_or_purged(own_url: str, own: Redis, line: Line) -> None:
    """It ends there and then, and is not begun when there is room; a purge leaves no ticket. Others go on."""
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        ids = await line.start(*numbers(0, 10))
        await parked(own, 5)
        cancels = cancels_of(own)
        task, _ = await cancels.cancel(ids[5], caller_of(ALICE))
        assert task.status == "cancelled"
        await purge_task(cancels, ids[6], caller_of(ALICE))
        assert not await own.exists(keys.metadata(ids[6]))
        assert await own.zscore(keys.parked_by_owner(ALICE, "stays"), str(Ticket(ids[6], 0))) is None
        await parked(own, 4)
        await line.end(*numbers(0, 5), *numbers(7, 10))
        await drained(own)
    assert set(line.begun) == {*numbers(0, 5), *numbers(7, 10)}


async def test_the_function_is_paused_meanwhile(
    own_url: str, own: Redis, own_client: httpx.AsyncClient, line: Line
) -> None:
    """Parked tickets stay where they are, and the owner's other tasks run. Resumed, they start, the oldest first."""
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF) as worker:
        await line.start(*numbers(0, 8))
        await parked(own, 3)
        await pause(own_client, "stays", heard_by=[worker])
        await line.end(*numbers(0, 5))
        await line.start("8")  # of the paused function: parked by that
        await until(lambda: is_parked(own, keys.parked("stays"), 1))
        assert (await ended(own, await start_as(own, ALICE, "count", to=2)))[-1][0] == "done"
        await parked(own, 3)
        assert len(line.begun) == 5
        await resume(own_client, "stays")
        await line.until_begun(9)
        await line.end(*numbers(5, 9))
        await drained(own)


async def test_the_function_has_a_limit(own_url: str, own: Redis, line: Line, tmp_path: Path) -> None:
    """A ticket that the limit admits is parked, though its message names no owner, and recovery adds no second message.
    The next one is admitted when that one has run.
    """
    place = tmp_path / "place"
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        await line.start(*numbers(0, 5))
        await line.until_begun(5)
        ids = [
            await start_as(own, ALICE, "one_at_once", place=str(place), name=str(number), hold=0) for number in range(3)
        ]
        await parked(own, 1, function="one_at_once")
        before = await added(own)
        await own.zadd(keys.OPEN, {ids[0]: keys.WAITING})
        await until(lambda: looked_at(own, ids[0]), "recovery has looked at it")
        assert await added(own) == before
        await line.end("0")
        for task_id in ids:
            assert (await ended(own, task_id))[-1][0] == "done"
        await line.end(*numbers(1, 5))


async def looked_at(redis: Redis, task_id: str) -> bool:
    """Whether recovery has scheduled the next look at this task, which was due."""
    return (await redis.zscore(keys.OPEN, task_id) or 0) > keys.WAITING


async def is_parked(redis: Redis, key: str, many: int) -> bool:
    """Whether so many tickets are in this set."""
    return await redis.zcard(key) == many


async def test_redis_loses_the_parked_set(own_url: str, own: Redis, line: Line) -> None:
    """Recovery queues the tasks again; a worker parks them, and runs them when there is room."""
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        ids = await line.start(*numbers(0, 8))
        await parked(own, 3)
        await own.delete(keys.parked_by_owner(ALICE, "stays"))
        await own.zadd(keys.OPEN, dict.fromkeys(ids[5:], keys.WAITING), xx=True)
        await parked(own, 3)
        await line.end(*numbers(0, 8))
        await drained(own)


async def test_redis_loses_the_index_of_parked_sets(own_url: str, own: Redis, line: Line) -> None:
    """Recovery enters the set again, and the next worker finds it."""
    with worker_process(own_url, *TEN, **QUICK, **HALF) as worker:
        ids = await line.start(*numbers(0, 7))
        await parked(own, 2)
        worker.kill()
    await own.delete(keys.PARKED_BY_OWNER)
    await own.zadd(keys.OPEN, dict.fromkeys(ids[5:], keys.WAITING), xx=True)
    await until(lambda: own.exists(keys.PARKED_BY_OWNER))
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        await line.end("5", "6")


async def test_a_message_of_an_older_release(own_url: str, own: Redis, line: Line) -> None:
    """It names neither owner nor function: the worker learns both from the task, and the share holds."""
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF):
        await line.start(*numbers(0, 5))
        await line.until_begun(5)
        task_id = await note(own, "stays", owner=ALICE, **line.given("5"))
        await own.zadd(keys.OPEN, {task_id: keys.WAITING + 2_000_000_000})
        await own.xadd(keys.QUEUE, message(task_id))
        await parked(own, 1)
        await line.end(*numbers(0, 5))
        await line.until_begun(6)
        line.open("5")
        assert (await ended(own, task_id))[-1][0] == "done"


async def test_a_worker_with_room_that_lacks_the_function(own_url: str, own: Redis, line: Line) -> None:
    """A parked task waits for one that has it, and does not go round between the two."""
    with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF, **TESTS):
        await line.start(*numbers(0, 6))
        await parked(own, 1)
        with worker_process(own_url, *TEN, **NO_RENEWAL, **HALF, **EXAMPLES):
            await ended(own, await start_as(own, ALICE, "count", to=1))
            before = await added(own)
            for _ in range(20):
                await ended(own, await start_as(own, BOB, "count", to=1))
            # Each is a message; half of them are parked by the worker that lacks `count`, and unparked by the other.
            assert await added(own) - before <= 60
            await parked(own, 1)
            await line.end(*numbers(0, 6))
