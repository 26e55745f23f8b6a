"""A random history of one log and its readers, one step at a time.

The tail, the readers and their pages are the product's. Each command that they send waits until the walk lets Redis
execute it, and its reply waits until the walk lets it arrive; either may fail. Published entries and confirmations wait
on a wire, which may break. The loop has a clock that the walk moves. Nothing runs between two steps, so that a seed
decides everything.
"""

import asyncio
import json
import random
import selectors
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from secrets import token_hex
from typing import Any, Final

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from plugins import entries, keys
from services.api.streams import pages, tail
from services.api.streams.formats import NDJSON
from services.api.streams.page_budget import PageBudget
from services.api.streams.pages import PageSemaphore
from services.api.streams.reader import Reader
from services.api.streams.tail import RETRY_PAUSE_S, Tail
from tests.support.settings import NEVER_S

# Heartbeats (s): so rare that no history sees one, or as by default.
HEARTBEATS_S: Final = (NEVER_S, NEVER_S, 15)

# Steps of a history until it is led to its end.
FEWEST, MOST = 20, 120

# Readers of a history, and how often Redis returns to an earlier state.
READERS: Final = 6
LOSSES: Final = 3

# Bytes: more than all pages of a history have.
PLENTY: Final = 1_000_000_000

# The reader or the tail that sends a command.
sender: ContextVar[str] = ContextVar("sender")


# A step that is possible, and its weight.
Possible = tuple[float, Callable[[], None]]


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop that calls a function where it would wait. Its clock stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.idle: Callable[[float | None], None] = lambda _: None
        loop = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> list[Any]:
                if timeout is None or timeout > 0:
                    loop.idle(timeout)
                return []

        super().__init__(Selector())

    def time(self) -> float:
        """The time of the clock."""
        return self.now


class Call:
    """A command, from the moment it is sent until its reply has arrived."""

    def __init__(self, sender: str, command: tuple[Any, ...]) -> None:
        self.sender = sender
        self.command = command
        self.arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.executed = False
        self.reply: Any = None

    def __str__(self) -> str:
        return f"{' '.join(map(str, [self.command[0], *self.command[2:]]))} of {self.sender}"


class SteppedRedis(Redis):
    """A client whose commands wait until the walk lets them go on."""

    calls: list[Call]

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        """Wait for the reply."""
        call = Call(sender.get(), args)
        self.calls.append(call)
        try:
            return await call.arrived
        finally:
            self.calls.remove(call)


class Client:
    """One reader, and all that its client has received."""

    def __init__(self, name: str, reader: Reader, slow: bool, ended_logs: int) -> None:
        self.name = name
        self.reader = reader
        self.start = reader.cursor
        self.tail_followed = not reader.tail.ended
        self.ended_logs = ended_logs  # so many were lost before its tail began to read
        self.pieces: list[bytes] = []
        self.accepted = asyncio.Event()
        self.holds = False  # the client has not accepted the last piece yet
        self._slow = slow
        sender.set(name)
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while not self.reader.ended:
            self.pieces.append(await self.reader.read())
            if self._slow and not self.reader.ended:
                self.accepted.clear()
                self.holds = True
                await self.accepted.wait()
            self.reader.page_sent()
        self.reader.close()

    def accept(self) -> None:
        """Accept the last piece."""
        self.holds = False
        self.accepted.set()

    def views(self) -> list[list[bytes]]:
        """The entries before, between and after the gaps."""
        views: list[list[bytes]] = [[]]
        for line in b"".join(self.pieces).splitlines():
            if line.startswith(b'{"event":"gap"'):
                views.append([])
            elif line:
                views[-1].append(line)
        return views


class Walk:
    """One history."""

    def __init__(self, redis: BlockingRedis, seed: int) -> None:
        self.steps: list[str] = []
        self.faults: list[str] = []
        self.losses = 0
        self.gaps = 0
        self._redis = redis
        self._dice = random.Random(seed)
        self._task_id = token_hex(16)
        self._key = keys.log(self._task_id)
        self._log: list[bytes] = []
        self._life = 0  # counts the losses, so that no entry is like one that was lost
        self._ended_logs: list[list[bytes]] = []  # that were complete, and lost their end
        self._subscribed = False
        self._wire: deque[bytes | None] = deque()  # None: a confirmation
        self._ring_lost = False
        self._emptied = False  # by a loss: then readers are let go
        self._client = SteppedRedis()
        self._client.calls = []
        self._heartbeat_s = self._dice.choice(HEARTBEATS_S)
        self._speed = self._dice.choice([0.3, 3])  # of Redis, against all else
        self._faulty = self._dice.random() < 0.4
        self._losses = self._dice.randint(0, LOSSES)
        self._semaphore = PageSemaphore(2 * READERS, NEVER_S)
        # Room for one page: readers that wait for their turn hold none.
        self._budget = PageBudget(self._dice.choice([1, PLENTY]), NEVER_S)
        self._tail: Tail | None = None
        self._ended_before: dict[Tail, int] = {}  # how many ends were lost before a tail began to read
        self._tails: list[asyncio.Task[None]] = []
        self._clients: list[Client] = []
        self._left = self._dice.randint(FEWEST, MOST)
        self._calm = False

    def run(self) -> None:
        """Take all steps. Afterwards `faults` says what was wrong."""
        loop = SteppedLoop()
        try:
            with self._small_parts():
                loop.idle = lambda timeout: self._step(loop, timeout)
                loop.run_until_complete(self._live())
        finally:
            self._redis.delete(self._key, keys.metadata(self._task_id))
            loop.close()

    @contextmanager
    def _small_parts(self) -> Iterator[None]:
        """Windows and pages of a few entries."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tail, "WINDOW_ENTRIES", self._dice.randint(2, 8))
            patch.setattr(pages, "FIRST_PAGE_ENTRIES", self._dice.randint(2, 5))
            patch.setattr(pages, "PAGE_BYTES", self._dice.choice([1, 150, 400]))
            yield

    async def _live(self) -> None:
        self._over = asyncio.Event()
        self._redis.hset(keys.metadata(self._task_id), "function", "f")
        self._append(self._dice.randint(0, 12))
        self._open()
        await self._over.wait()
        for client in self._clients:
            if client.reading.done():
                client.reading.result()
        tasks = [*self._tails, *(client.reading for client in self._clients)]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait(tasks)
        self._judge()

    def _say(self, step: str) -> None:
        self.steps.append(step)

    def _step(self, loop: SteppedLoop, timeout: float | None) -> None:
        """Take one of the steps that are possible."""
        for task in self._tails:
            if task.done():
                task.result()
        self._left -= 1
        if self._left < 0 and not self._calm:
            self._become_calm()
            return
        possible = list(self._possible(loop, timeout))
        if possible:
            weights, steps = zip(*possible, strict=True)
            self._dice.choices(steps, weights)[0]()
        else:
            if self._unfinished:
                self.faults.append("a reader waits for ever")
            self._over.set()

    def _possible(self, loop: SteppedLoop, timeout: float | None) -> Iterator[Possible]:
        for call in self._calls():
            yield from self._steps_of(call)
        if self._wire:
            yield 8, partial(self._deliver, self._dice.randint(1, len(self._wire)))
        for client in self._clients:
            if client.holds:
                yield 4, partial(self._accept, client)
        if not self._calm:
            yield from self._disturbances()
        # In the end no time passes but the pauses after errors, and only if nothing else is possible: a reader that
        # needs a heartbeat then waits for ever.
        if timeout is not None and timeout < (RETRY_PAUSE_S * 2 if self._calm else NEVER_S / 2) and self._unfinished:
            yield 1e-6 if self._calm else 1, partial(self._pass, loop, timeout)

    def _steps_of(self, call: Call) -> Iterator[Possible]:
        if call.executed:
            yield 3, partial(self._arrive, call)
        else:
            yield self._speed, partial(self._execute, call)
            yield self._speed, partial(self._answer, call)
        if self._faulty and not self._calm:
            yield 0.3, partial(self._fail, call, "loses its reply" if call.executed else "does not arrive")

    def _disturbances(self) -> Iterator[Possible]:
        if not self._closed:
            yield 8, partial(self._append, self._dice.randint(1, 4))
            yield 0.3, self._end
        if self._subscribed:
            yield 1, self._break
        else:
            yield 6, self._subscribe
        if len(self._clients) < READERS:
            yield 1.5, self._open
        if self._losses and self._log:
            yield 3, self._lose

    def _calls(self) -> list[Call]:
        """The commands without a reply, in an order that a seed repeats."""
        waiting = [call for call in self._client.calls if not call.arrived.done()]
        return sorted(waiting, key=lambda call: (call.sender, call.command[2:]))

    @property
    def _unfinished(self) -> bool:
        return any(not client.reader.ended for client in self._clients)

    @property
    def _closed(self) -> bool:
        return bool(self._log) and entries.decode(self._log[-1]).ends

    def _append(self, count: int, event: str = "chunk") -> None:
        for _ in range(count):
            data = "x" * self._dice.choice([1, 90])
            line = entries.encode(event, 1 + self._life, len(self._log), self._life, data)
            self._log.append(line)
            if self._subscribed:
                if self._dice.random() < 0.02:
                    self._ring_lost = True
                    self._say(f"the message of entry {len(self._log) - 1} is lost")
                else:
                    self._wire.append(line)
        if count:
            self._redis.rpush(self._key, *self._log[-count:])
        self._say(f"the log grows by {count}, to {len(self._log)} entries")

    def _end(self) -> None:
        self._append(1, "done")
        self.steps[-1] += ", the end"

    def _lose(self) -> None:
        """Redis returns to an earlier state. All connections break."""
        self._losses -= 1
        self.losses += 1
        self._life += 1
        if self._closed:
            self._ended_logs.append(list(self._log))
        lost = self._dice.choice([1, 1, 2, 2, 3, 5, len(self._log)])
        remaining = max(0, len(self._log) - lost)
        del self._log[remaining:]
        if remaining:
            self._redis.ltrim(self._key, 0, remaining - 1)
        else:
            self._redis.delete(self._key)
            self._emptied = True
        self._say(f"Redis loses the last entries, {remaining} remain")
        self._break()
        for call in self._calls():
            if self._dice.random() < 0.3:
                self._fail(call, "breaks off")

    def _break(self) -> None:
        self._say("the subscription breaks")
        self._subscribed = False
        self._wire.clear()

    def _subscribe(self) -> None:
        self._say("the hub subscribes")
        self._subscribed = True
        self._ring_lost = False
        self._wire.append(None)

    def _deliver(self, count: int) -> None:
        for _ in range(count):
            line = self._wire.popleft()
            if line is None:
                self._say("a confirmation is delivered")
            else:
                self._say(f"entry {entries.decode(line).seq} is delivered")
            if self._tail is not None and not self._tails[-1].done():
                if line is None:
                    self._tail.on_confirmed()
                else:
                    self._tail.on_published(line)

    def _answer(self, call: Call) -> None:
        self._execute(call)
        self._arrive(call)

    def _execute(self, call: Call) -> None:
        call.executed = True
        call.reply = self._redis.execute_command(*call.command)  # type: ignore[no-untyped-call]  # redis-py
        many = f"{len(call.reply)} entries" if isinstance(call.reply, list) else call.reply
        self._say(f"{call} is executed: {many}")

    def _arrive(self, call: Call) -> None:
        self._say(f"the reply arrives to {call}")
        call.arrived.set_result(call.reply)

    def _fail(self, call: Call, what: str) -> None:
        self._say(f"{call} {what}")
        call.arrived.set_exception(RedisConnectionError(what))

    def _pass(self, loop: SteppedLoop, seconds: float) -> None:
        self._say(f"{seconds:g} s pass")
        loop.now += seconds

    def _accept(self, client: Client) -> None:
        self._say(f"{client.name} accepts a piece")
        client.accept()

    def _open(self) -> None:
        """Open a reader as the hub does."""
        length = len(self._log)
        cursor = self._dice.choice([0, 0, self._dice.randint(0, length)])
        if self._closed and cursor == length:
            return  # 204
        name = f"reader {len(self._clients)}"
        if self._closed:
            newest = Tail(self._client, self._task_id, NDJSON, self._heartbeat_s)
            newest.place_at_end(self._log[-1])
        else:
            newest = self._live_tail(length)
        self._ended_before.setdefault(newest, len(self._ended_logs))
        newest.readers += 1
        slow = self._dice.random() < 0.6
        self._say(f"{name}{' (slow)' if slow else ''} opens at {cursor} of {length} entries")
        self._clients.append(
            Client(name, Reader(newest, cursor, self._semaphore, self._budget), slow, self._ended_before[newest])
        )

    def _live_tail(self, length: int) -> Tail:
        if self._tail is None or self._tail.ended or self._tails[-1].done():
            self._tail = Tail(self._client, self._task_id, NDJSON, self._heartbeat_s)
            if not length:
                self._tail.place_at_start()
            sender.set(f"tail {len(self._tails)}")
            self._tails.append(asyncio.create_task(self._tail.follow()))
            if self._subscribed:
                self._wire.append(None)  # the hub subscribes again
        return self._tail

    def _become_calm(self) -> None:
        self._say("calm")
        self._calm = True
        if not self._closed:
            self._end()
        if self._ring_lost or self._dice.random() < 0.3:
            self._break()
        if not self._subscribed:
            self._subscribe()

    def _judge(self) -> None:
        for client in self._clients:
            views = client.views()
            self.gaps += len(views) - 1
            self.faults += [f"{client.name}: {fault}" for fault in self._faults(client, views)]

    def _faults(self, client: Client, views: list[list[bytes]]) -> Iterator[str]:
        starts = [client.start, *(0 for _ in views[1:])]
        for start, view in zip(starts, views, strict=True):
            seqs = [entries.decode(line).seq for line in view]
            if seqs != list(range(start, start + len(seqs))):
                yield f"order: from {start} {seqs}"
        if not self.losses and len(views) > 1:
            yield "gap without a loss"
        if client.reader.complete:
            if views[-1] not in [log[starts[-1] :] for log in [self._log, *self._ended_logs[client.ended_logs :]]]:
                kind = "live" if client.tail_followed else "closed"
                yield f"{kind}: view {shown(views[-1])}, log {shown(self._log)}"
        elif (
            client.reader.ended
            and not (self._emptied or self._ended_logs)
            and client.reader.cursor <= client.reader.tail.next  # else it came with a cursor beyond the log
        ):
            yield "breaks off though the log went on"


def shown(log: list[bytes]) -> str:
    """The entries, each as its seq and its life."""
    return " ".join(f"{each['seq']}.{each['at']}" for each in map(json.loads, log))
