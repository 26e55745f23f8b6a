"""A stream of a storm: a task and its readers, and what they must have seen when the task has ended.

Where Redis loses its last second, an answer that was given in that second may be undone: the task that a POST started
is unknown, a cancelled task goes on, an end is taken back and another one comes. Everything else holds nevertheless.
"""

import asyncio
import json
import random
import secrets
from collections import Counter
from typing import Any, Final, NamedTuple

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import entries, keys, metadata
from plugins.function import policy
from tests.chaos.faults import Loss, System
from tests.chaos.readers import ENDS, Connection, Event, Reader
from tests.functions.storm import anew, once, onward, output, twice
from tests.support.waiting import DEADLINE_S

READERS: Final = 5

# Seconds after a loss within which a reader may get an end from before it. The first is shorter than the restart of
# Redis and another run of a task; the second one bounds what an API may hold for a reader that is behind.
ARRIVES_S: Final = 0.5
HELD_S: Final = 10

# How often each function may be tried again.
RETRIES: Final = {each.name: each.retries for each in map(policy, (once, twice, anew, onward)) if each}


class Ended(NamedTuple):
    """A task's end, as its log has it."""

    task_id: str
    status: str
    end: Any
    chunks: int  # that readers have in the end
    attempt: int  # the last that left anything in the log


class Request(NamedTuple):
    """A request that was answered: when it was sent first, and when the answer came, in times of the loop."""

    sent_at: float
    answered_at: float
    answer: httpx.Response

    def undone_by(self, losses: list[Loss]) -> bool:
        """Whether Redis may have lost what it did."""
        return any(loss.since <= self.answered_at and self.sent_at <= loss.until for loss in losses)


class Stream:
    """One task and its readers, checked when it has ended."""

    def __init__(self, system: System, dice: random.Random, tally: Counter[str]) -> None:
        self._system = system
        self._dice = dice
        self._tally = tally
        self._function = dice.choice(["once", "twice", "anew", "onward", "onward"])
        self._input = {"seed": dice.randrange(1 << 30), **dice.choice([quick, quick, slow])(dice)}
        self._cancels = dice.random() < 0.15
        self._task_id = ""
        self._readers: list[Reader] = []
        self._since = 0.0

    async def run(self) -> Ended | None:
        """Start it, follow it, and check the entries of all readers. Return None if Redis has lost the task."""
        self._since = asyncio.get_running_loop().time()
        started = await self._insist("POST", "/tasks", 202, json={"function": self._function, "input": self._input})
        self._task_id = started.answer.json()["task_id"]
        dice = [random.Random(self._dice.random()) for _ in range(READERS)]
        self._readers = [Reader(self._system.ports, self._task_id, each) for each in dice]
        reading = [asyncio.create_task(reader.run()) for reader in self._readers]
        cancel = None
        if self._cancels:
            await asyncio.sleep(self._dice.uniform(0, 5))
            lost = [404] if self._system.forgets else []
            cancel = await self._insist("DELETE", f"/tasks/{self._task_id}", 200, 202, *lost)
        await asyncio.gather(*reading)
        log = await self._final_log()
        self._tally["streams"] += 1
        self._tally["readers"] += READERS
        self._tally["readers came back"] += sum(len(reader.connections) - 1 for reader in self._readers)
        if log is None:
            assert started.undone_by(self._losses), f"{self}: its POST was accepted, and it is unknown"
            self._tally["tasks lost with their POST"] += 1
            return None
        assert cancel is None or cancel.answer.status_code != 404, f"{self}: DELETE answered 404, and it is there"
        ended = self._check_log(log, cancel)
        for reader in self._readers:
            self._check_reader(reader, log)
        return ended

    @property
    def _losses(self) -> list[Loss]:
        """The losses of Redis since the task began."""
        return [loss for loss in self._system.losses if loss.until >= self._since]

    async def _insist(self, method: str, path: str, *expected: int, **more: Any) -> Request:
        """Repeat the request, with the same key, until an API answers it, as a client would."""
        key = {"Idempotency-Key": secrets.token_hex(8)}
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        while True:
            url = f"http://127.0.0.1:{self._dice.choice(self._system.ports)}{path}"
            try:
                # Some do not wait for the answer: it is lost on them, though not what they asked for.
                async with httpx.AsyncClient(timeout=self._dice.choice([0.01, 0.1, DEADLINE_S])) as client:
                    answer = await client.request(method, url, headers=key, **more)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code in expected:
                return Request(sent_at, loop.time(), answer)
            assert answer is None or answer.status_code == 503, f"{self}: {answer.status_code} {answer.text}"
            self._tally["requests repeated"] += 1
            await asyncio.sleep(0.2)  # as `Retry-After` asks for, only sooner

    async def _final_log(self) -> list[entries.Entry] | None:
        """The log of the task once it is over, which no loss can change any more; None if the task is unknown."""
        async with Redis.from_url(self._system.redis.url) as redis:
            while True:
                async with self._system.lasting:
                    try:
                        known = await redis.hexists(keys.metadata(self._task_id), metadata.FUNCTION)
                        is_open = await redis.zscore(keys.OPEN, self._task_id) is not None
                        lines: Any = await redis.lrange(keys.log(self._task_id), 0, -1)
                        if not known:
                            return None
                        if not (self._system.forgets and is_open):
                            return [entries.decode(line) for line in lines]
                    except RedisError:  # it is being restarted
                        pass
                await asyncio.sleep(0.2)

    def _check_log(self, log: list[entries.Entry], cancel: Request | None) -> Ended:
        ends = [entry for entry in log if entry.ends]
        assert ends, f"{self}: is over, and its log of {len(log)} entries has no end"
        assert log[-1:] == ends, f"{self}: ends {ends}"
        end, why = ends[0], json.loads(bytes(ends[0].data))
        assert [entry.seq for entry in log] == list(range(len(log)))
        attempts = [entry.attempt for entry in log]
        assert attempts == sorted(attempts), f"{self}: an earlier attempt wrote after a later one"
        marks = [entry for entry in log if entry.event == "attempt"]
        self._check_marks(log, marks)
        kept = kept_of([event_of(entry) for entry in log])
        self._check_output(end.event, kept)
        assert end.event != "done" or why == {"chunks": len(kept)}, f"{self}: {why}"
        told = cancel is not None and cancel.answer.json()["status"] == "cancelled"
        if (end.event == "cancelled") != told:
            undone = cancel is not None and cancel.undone_by(self._losses)
            assert undone, f"{self}: {end.event}, and the cancel was told {told}"
            self._tally["answers to a DELETE undone"] += 1
        if end.event == "failed" and why["code"] == "log_lost":
            assert self._losses, f"{self}: {why}, and nothing was lost"
        elif end.event == "failed":
            assert why["code"] in {"worker_lost", "interrupted"}, f"{self}: {why}"
            assert end.attempt == RETRIES[self._function] + 1, f"{self}: given up at attempt {end.attempt}"
        self._tally[f"ends: {end.event} {why.get('code', '')}".rstrip()] += 1
        self._tally["further attempts"] += len(marks)
        return Ended(self._task_id, end.event, why, len(kept), max(attempts))

    def _check_output(self, end: str, kept: list[Any]) -> None:
        """These chunks are what the function yields; or, unless it is done, as many of them as there are."""
        wanted = output(self._input["seed"], self._input["chunks"])
        if end == "done":
            assert kept == wanted, f"{self}: {len(kept)} of {len(wanted)} chunks, {doubled(kept)} of them doubled"
        else:
            assert kept == wanted[: len(kept)], f"{self}: not what it had to yield, {doubled(kept)} doubled"

    def _check_marks(self, log: list[entries.Entry], marks: list[entries.Entry]) -> None:
        """Each further attempt begins with its mark, which says what it keeps; there are no more than there may be."""
        assert len({entry.attempt for entry in marks}) == len(marks), f"{self}: an attempt began twice: {marks}"
        assert all(entry.attempt <= RETRIES[self._function] + 1 for entry in log), f"{self}: an attempt too many"
        for mark in marks:
            wanted = {"attempt": mark.attempt, "keeps": self._function == "onward"}
            assert json.loads(bytes(mark.data)) == wanted, f"{self}: {mark}"
        begun = 1
        for entry in log:
            begun = entry.attempt if entry.event == "attempt" else begun
            assert entry.ends or entry.attempt == begun, f"{self}: {entry} in attempt {begun}"

    def _check_reader(self, reader: Reader, log: list[entries.Entry]) -> None:
        """After its last gap, it has seen the log, each entry once and in order. The exceptions are those of losses."""
        truth = [event_of(entry) for entry in log]
        assert not reader.silences, f"{self}: a connection without a heartbeat"
        assert not {404, 410} & set(reader.answers), f"{self}: {reader.answers}, and it is there"
        gaps = [place for place, event in enumerate(reader.seen) if event.event == "gap"]
        assert not gaps or self._losses, f"{self}: nothing was lost, and still {[reader.seen[gap] for gap in gaps]}"
        self._tally["gaps"] += len(gaps)
        self._tally["events read"] += len(reader.seen) - len(gaps)
        begin = 0
        for gap in gaps:
            after = json.loads(reader.seen[gap].data)["after"]
            assert after == gap - begin - 1, f"{self}: had {gap - begin} entries, and was told of a gap after {after}"
            assert_in_order(reader.seen[begin:gap], self)
            begin = gap + 1
        view = reader.seen[begin:]
        assert_in_order(view, self)
        if view == truth:
            return
        assert self._losses, f"{self}: nothing was lost. {reader.answers} {difference(view, truth)}"
        if self._left_with_a_lost_end(reader, view, truth):
            if not any(self._came_back_past(reader, begin + place) for place in range(len(view))):
                self._check_output(view[-1].event, kept_of(view))
            self._tally["readers that had an end that was lost"] += 1
        else:
            others = [place for place, event in enumerate(view) if truth[place : place + 1] != [event]]
            untold = [place for place in others if not self._came_back_past(reader, begin + place)]
            assert not untold, (
                f"{self}: was not told of a loss. {reader.answers} gaps {gaps} losses {self._losses} "
                f"{reader.connections} {difference(view, truth)}"
            )
            assert len(view) == len(truth), f"{self}: {reader.answers} {difference(view, truth)}"
            self._tally["readers that came back past a loss"] += 1

    def _left_with_a_lost_end(self, reader: Reader, view: list[Event], truth: list[Event]) -> bool:
        """Whether a reader had an end, and Redis lost it then. Nothing can tell this reader.

        The end that the log has now may be the same, behind other entries: then it counts when the reader left.
        """
        if not reader.ended:
            return False
        left_at = reader.connections[-1].closed_at
        late_s = ARRIVES_S if view[-1] in truth[len(view) - 1 : len(view)] else HELD_S
        return any(loss.since <= left_at <= loss.until + late_s for loss in self._losses)

    def _came_back_past(self, reader: Reader, place: int) -> bool:
        """Whether a reader had this event of another log, was not connected when Redis had lost it, and came back.

        The log may have had other entries in its place by then: it is not promised that this reader is told.
        """
        by = max(number for number, each in enumerate(reader.connections) if each.place <= place)
        had_until = reader.connections[by].closed_at
        later = reader.connections[by + 1 :]
        return any(loss.since <= had_until and any(is_after(each, loss) for each in later) for loss in self._losses)

    def __repr__(self) -> str:
        readers = [f"{len(reader.seen)}{' and its end' if reader.ended else ''}" for reader in self._readers]
        return f"{self._function} {self._input} {self._task_id}, readers with {', '.join(readers)}"


def quick(dice: random.Random) -> dict[str, Any]:
    """Chunks in bursts, for up to 15 s."""
    chunks = dice.choice([0, 1, 300, 300, 1_000, 1_000, 3_000])
    return {"chunks": chunks, "burst": max(1, chunks // dice.choice([5, 100, 300])), "pause": 0.05}


def slow(dice: random.Random) -> dict[str, Any]:
    """A chunk now and then: its worker may be silent for as long as Redis forgets."""
    return {"chunks": dice.choice([2, 4, 8]), "burst": 1, "pause": dice.uniform(0.5, 2)}


def event_of(entry: entries.Entry) -> Event:
    """The event that a reader gets for an entry."""
    return Event(entry.seq, "message" if entry.event == "chunk" else entry.event, bytes(entry.data))


def is_after(connection: Connection, loss: Loss) -> bool:
    """Whether a connection has brought nothing from before the loss."""
    return connection.closed_at >= loss.until and (connection.first_at is None or connection.first_at >= loss.until)


def kept_of(view: list[Event]) -> list[Any]:
    """The chunks that a reader keeps if it drops those of attempts that are retried from the start."""
    kept: list[Any] = []
    for event in view:
        if event.event == "message":
            kept.append(json.loads(event.data))
        elif event.event == "attempt" and not json.loads(event.data)["keeps"]:
            kept = []
    return kept


def doubled(kept: list[Any]) -> int:
    """How many chunks are there more than once."""
    return len(kept) - len(set(kept))


def assert_in_order(view: list[Event], stream: Stream) -> None:
    """A reader has seen each entry once, from the first on, and nothing after an end."""
    assert [event.seq for event in view] == list(range(len(view))), f"{stream}: out of order"
    assert not any(event.event in ENDS for event in view[:-1]), f"{stream}: events after an end"


def difference(view: list[Event], truth: list[Event]) -> str:
    """Where a reader's events are other than the log's, for the message."""
    at = next((at for at, (one, other) in enumerate(zip(view, truth, strict=False)) if one != other), None)
    if at is None:
        return f"saw {len(view)} of {len(truth)}, the last {view[-1:]}"
    return f"at {at} of {len(view)} and {len(truth)}: saw {view[at : at + 2]}, is {truth[at : at + 2]}"
