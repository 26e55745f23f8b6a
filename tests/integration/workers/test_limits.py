"""Limits per function: counted exactly over two workers, in order, and no task waits for ever, whatever dies."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys, limits
from plugins.limits import Limits, Ticket
from tests.support.client import start
from tests.support.messages import drained, message
from tests.support.processes import api_process, worker_process
from tests.support.settings import NO_RENEWAL, QUICK
from tests.support.tasks import end_noted, ended
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where functions note what they do."""
    place = tmp_path / "place"
    place.touch()
    return place


def said(place: Path) -> list[tuple[str, str, float]]:
    """The notes of functions: `+` or `-`, the name, and when."""
    lines = [line.split() for line in place.read_text().splitlines()]
    return [(what, name, float(at)) for what, name, at in lines]


def most_at_once(place: Path) -> int:
    """How many ran at the same time."""
    running = most = 0
    for what, _, _ in said(place):
        running += 1 if what == "+" else -1
        most = max(most, running)
    return most


async def begun(place: Path, many: int) -> None:
    """Wait until so many have begun."""

    async def there() -> bool:
        return sum(what == "+" for what, _, _ in said(place)) >= many

    await until(there)


async def limit_key_of(own: Redis, task_id: str) -> str:
    """The gate of a task."""
    name = await own.hget(keys.metadata(task_id), "gate")
    assert isinstance(name, bytes)
    return name.decode()


async def test_never_more_at_once_than_the_limit(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """Thirty tasks, two workers, a concurrency of 3: three run at once, never four, and all are done."""
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        ids = [await start(own_client, "three_at_once", place=str(place), name=str(n), hold=0.1) for n in range(30)]
        for task_id in ids:
            assert (await ended(own, task_id))[-1][0] == "done"
        await drained(own)
    assert most_at_once(place) == 3
    assert len(said(place)) == 60


async def test_those_that_wait_start_in_order(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """With a concurrency of 1, tasks run in the order of their submission; one that is cancelled waits no more."""
    ids = [await start(own_client, "one_at_once", place=str(place), name=str(n), hold=0.02) for n in range(12)]
    assert await own.xlen(keys.QUEUE) == 1
    await own_client.delete(f"/tasks/{ids[5]}")
    assert await own.zscore(await limit_key_of(own, ids[5]), f"{ids[5]}:1") is None
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        for task_id in ids:
            await ended(own, task_id)
    assert [name for what, name, _ in said(place) if what == "+"] == [str(n) for n in range(12) if n != 5]
    assert most_at_once(place) == 1


async def test_a_message_that_was_not_let_in(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """The id of a task that waits, queued all the same, or for another attempt, starts nothing past the gate."""
    ids = [await start(own_client, "one_at_once", place=str(place), name=str(n), hold=0.1) for n in range(4)]
    for task_id in ids[1:]:
        await own.xadd(keys.QUEUE, message(task_id))
        await own.xadd(keys.QUEUE, message(task_id, attempt=2))
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        for task_id in ids:
            assert (await ended(own, task_id))[-1][0] == "done"
    assert most_at_once(place) == 1


async def test_a_limit_for_each_value_of_an_input(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """Two values run side by side, each one at a time; the default is the same value as when it is given."""
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        given: list[dict[str, Any]] = [{"who": "a"}, {"who": "nobody"}, {}] * 4
        ids = [
            await start(own_client, "one_for_each", place=str(place), name=str(n), hold=0.2, **each)
            for n, each in enumerate(given)
        ]
        for task_id in ids:
            await ended(own, task_id)
    running: set[str] = set()
    seen = set()
    for what, name, _ in said(place):
        who = name.split("/")[0]
        assert (who in running) == (what == "-")
        running ^= {who}
        seen.add(frozenset(running))
    assert frozenset({"a", "nobody"}) in seen


async def test_never_more_starts_than_the_rate(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """Of 17 tasks at 5 a second the first five start at once, and as the gate counts them no second has more."""
    with worker_process(own_url, **QUICK), worker_process(own_url, **QUICK):
        before = time.time()
        ids = [await start(own_client, "five_a_second", place=str(place), name=str(n)) for n in range(17)]
        for task_id in ids:
            await ended(own, task_id)
    at = sorted(at for what, _, at in said(place) if what == "+")
    assert len(at) == 17
    assert at[4] - at[0] < 0.6  # one after the other, at that rate, would take 0.8
    # A function begins some milliseconds after its gate has let it in.
    assert all(sixth - first > 0.8 for first, sixth in zip(at, at[5:], strict=False))
    assert at[-1] - before < 6


async def test_a_worker_killed_while_it_holds_places(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """kill -9: its tasks run again, waiting tasks get their turn, and there are never more than the limit."""
    with worker_process(own_url, **QUICK) as one:
        ids = [await start(own_client, "three_at_once", place=str(place), name=str(n), hold=30) for n in range(3)]
        await begun(place, 3)
        ids += [await start(own_client, "three_at_once", place=str(place), name=str(n), hold=0.1) for n in range(3, 9)]
        one.kill()
        await asyncio.to_thread(place.write_text, "")  # they are gone, and have not said so
        with worker_process(own_url, **QUICK):
            for task_id in ids:
                assert (await ended(own, task_id))[-1][0] == "done"
    assert most_at_once(place) <= 3
    assert len(said(place)) == 18


async def test_a_cancelled_function_has_its_place_until_it_has_cleaned_up(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """Its task is over at once, for its readers; the next one begins when the function has let go."""
    given: dict[str, Any] = {"place": str(place), "clean_up": 1.5}
    with worker_process(own_url, **QUICK):
        first = await start(own_client, "one_at_once", name="first", hold=3_600, **given)
        await begun(place, 1)
        second = await start(own_client, "one_at_once", name="second", hold=0, **given)
        assert (await own_client.delete(f"/tasks/{first}")).status_code == 202
        await end_noted(own, first)
        assert len(said(place)) == 1
        assert (await ended(own, second))[-1][0] == "done"
    assert [(what, name) for what, name, _ in said(place)] == [
        ("+", "first"),
        ("-", "first"),
        ("+", "second"),
        ("-", "second"),
    ]


async def test_a_back_off_holds_no_place(own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path) -> None:
    """While a task waits for its second attempt, others run; then it takes its turn again."""
    with worker_process(own_url, **QUICK):
        ids = [
            await start(own_client, "one_at_once_again", place=str(place), name=str(n), fails=n == 0) for n in range(4)
        ]
        for task_id in ids:
            assert (await ended(own, task_id))[-1][0] == "done"
    assert [name for what, name, _ in said(place) if what == "+"] == ["0/1", "1/1", "2/1", "3/1", "0/2"]
    assert most_at_once(place) == 1


async def test_whoever_waits_for_the_rate_dies(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """The API process that would let the next ones in is killed: another one does."""
    with api_process(own_url) as dying:
        async with httpx.AsyncClient(base_url=dying.url) as client:
            ids = [await start(client, "five_a_second", place=str(place), name=str(n)) for n in range(8)]
        dying.process.kill()
    assert await own.xlen(keys.QUEUE) < 8

    async def all_in() -> bool:
        return await own.xlen(keys.QUEUE) == 8

    await until(all_in)
    with worker_process(own_url, **QUICK):
        for task_id in ids:
            assert (await ended(own, task_id))[-1][0] == "done"


@pytest.mark.parametrize("died", ["noted", "let in", "ended", "left"])
async def test_whoever_dies_on_the_way(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path, died: str
) -> None:
    """A process that died after the note, after a gate let its task in, after an end, or after it left the gate and
    before it queued the next: recovery does the rest.
    """
    first, second = [await start(own_client, "one_at_once", place=str(place), name=str(n), hold=0.01) for n in range(2)]
    name = await limit_key_of(own, first)
    await own.delete(keys.QUEUE)
    if died == "noted":
        await own.delete(name)
    elif died == "ended":
        await own.hset(keys.metadata(first), "status", "done")
    elif died == "left":
        await own.hset(keys.metadata(first), "status", "done")
        script = own.register_script(limits.SCRIPT)
        answer = limits.decision_of(await script(**limits.arguments(name, Limits(1), release=[Ticket(first, 1)])))
        assert answer.admitted == [Ticket(second, 1)]
    with worker_process(own_url, **QUICK):
        await own.zadd(keys.OPEN, {first: 0})
        if died == "noted":
            await own.zadd(keys.OPEN, {second: 1})

        async def over() -> bool:
            return await own.zscore(keys.OPEN, first) is None and await own.zscore(keys.OPEN, second) is None

        await until(over)
    assert [n for what, n, _ in said(place) if what == "+"] == (["1"] if died in ("ended", "left") else ["0", "1"])


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "unreadable"])
async def test_a_place_that_nobody_gives_back(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path, lost: bool
) -> None:
    """Metadata that Redis lost, or that is not what we write, takes its place along only until recovery looks at the
    gate.
    """
    first, second = [await start(own_client, "one_at_once", place=str(place), name=str(n), hold=0.01) for n in range(2)]
    if lost:
        await own.delete(keys.metadata(first))
    else:
        await own.hset(keys.metadata(first), "created_at", "yesterday")
        await own.xtrim(keys.QUEUE, 0)  # so that no worker runs it all the same
    await own.zadd(keys.OPEN, {await limit_key_of(own, second): 0})
    with worker_process(own_url, **QUICK):
        assert (await ended(own, second))[-1][0] == "done"
    await own.delete(keys.metadata(first))
    await own.zadd(keys.OPEN, {first: 0})  # recovery would forget it in a minute


async def test_nobody_asks_a_gate_that_is_full(
    own_url: str, own_client: httpx.AsyncClient, own: Redis, place: Path
) -> None:
    """While a task waits for another's end, no script runs: neither the API asks nor the worker."""
    ids = [
        await start(own_client, "one_at_once", place=str(place), name=str(n), hold=0 if n == 0 else 3_600)
        for n in range(3)
    ]

    async def evals() -> int:
        stats = await own.info("commandstats")
        return sum(int(stats.get(name, {"calls": 0})["calls"]) for name in ("cmdstat_eval", "cmdstat_evalsha"))

    async def looks() -> int:
        return int((await own.info("commandstats")).get("cmdstat_zrange", {"calls": 0})["calls"])

    with worker_process(own_url, **NO_RENEWAL):
        await begun(place, 2)

        async def noted() -> bool:  # the first one's end, by a script, after it has let the second in
            return await own.zscore(keys.OPEN, ids[0]) is None

        await until(noted)
        before, looked = await evals(), await looks()

        async def looked_often() -> bool:
            return await looks() >= looked + 10

        await until(looked_often)
        assert await evals() == before
        for task_id in reversed(ids):
            await own_client.delete(f"/tasks/{task_id}")
            await ended(own, task_id)


async def test_the_script(own: Redis) -> None:
    """A repeated call gets the same reply, and changes nothing. A start counts for its period, and not longer."""
    script = own.register_script(limits.SCRIPT)
    name = keys.limit("test", "0" * 32)
    a, b, c = (Ticket(letter * 32, 1) for letter in "abc")

    for ticket in (a, b, c):
        await own.hset(keys.metadata(ticket.task_id), "status", "queued")
        await own.expire(keys.metadata(ticket.task_id), 60)

    async def ask(rules: Limits, **who: object) -> limits.Decision:
        return limits.decision_of(await script(**limits.arguments(name, rules, **who)))  # type: ignore[arg-type]  # by name, each of its own type

    one = Limits(1)
    for _ in range(2):
        assert await ask(one, acquire=a, order=1) == (None, 0, [a])
    for _ in range(2):
        assert await ask(one, acquire=c, order=3) == (None, 1, [])
    for _ in range(2):
        assert await ask(one, acquire=b, order=2) == (None, 2, [])
    assert await ask(one) == (None, 2, [])
    for _ in range(2):
        assert await ask(one, release=[a]) == (None, 1, [b])
    await own.zadd(name, {str(b): limits.STARTED}, xx=True)
    assert await ask(one, release=[a]) == (None, 1, [])
    assert await ask(one, acquire=b, order=2) == (None, 1, [b])
    assert await own.zscore(name, str(b)) == limits.STARTED
    assert await ask(Limits()) == (None, 0, [c])
    await own.delete(name)

    rated = Limits(None, 2, 200)
    for each, order in ((a, 1), (b, 2)):
        for _ in range(2):
            assert (await ask(rated, acquire=each, order=order)).admitted == [each]
    wait, waiting, admitted = await ask(rated, acquire=c, order=3)
    assert (waiting, admitted) == (1, [])
    assert wait is not None
    assert 0 < wait <= 201
    await asyncio.sleep((wait + 1) / 1000)
    assert (await ask(rated)).admitted == [c]
    await own.delete(name)
