"""The scheduler: every command of every process is a step that waits for a verdict."""

import asyncio
import contextvars
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, Final, TypeVar

import structlog
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from plugins import scripts
from tests.simulation.clock import PROCESS, Clock, Loop, Process, seeded
from tests.simulation.connection import SimulatedConnection
from tests.simulation.server import Command, Server, Snapshot
from tests.support.processes import ROOT

T = TypeVar("T")

# Steps after which a schedule does not come to rest.
MAX_STEPS: Final = 20_000

# Lines of a schedule that a failed test shows.
SHOWN: Final = 600

# Commands that processes repeat while nothing happens. A schedule does not show them, unless something befalls them.
ROUTINE: Final = re.compile(
    r"TIME$|ZRANGE tasks:open|SMEMBERS functions:paused|MULTI · HSET functions|XREADGROUP|XAUTOCLAIM"
)

ID: Final = re.compile(r"\b([0-9a-f]{4})[0-9a-f]{28}\b|\b([0-9a-f]{4})[0-9a-f]{4}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


# Ids of messages on the queue are of the server's real time.
MESSAGE_ID: Final = re.compile(r"\b\d{13}-\d+\b")


def short(text: str) -> str:
    """The text with ids as their first four characters."""
    return MESSAGE_ID.sub("‹message›", ID.sub(r"\1\2", text))


class Verdict(StrEnum):
    """The ways in which a step may go. The values are the words of a printed schedule."""

    GO = "goes"
    REPLY_LATER = "is executed, reply under way"
    REPLY_LOST = "is executed, reply lost"
    NEVER_ARRIVED = "never arrives"
    TWICE = "is executed twice"
    LATER = "is held up, connection breaks"
    CUT = "is cut in the middle"
    FULL = "finds Redis full"


class Step:
    """The commands of one round trip, or a piece of a function's work, that wait for a verdict."""

    def __init__(
        self, process: Process, commands: list[Command], connection: SimulatedConnection | None, at: float
    ) -> None:
        self.process = process
        self.commands = commands
        self.connection = connection  # None for a function's work
        self.answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.outcome: Any = None  # of a step whose reply is under way
        self.deadline = connection.socket_timeout + at if connection and connection.socket_timeout else None
        self.read_until: float | None = None  # of a blocking read
        self.blocked = False  # a blocking read that has found nothing

    @property
    def is_work(self) -> bool:
        """Whether it is a piece of a function's work."""
        return self.connection is None

    @cached_property
    def text(self) -> str:
        """All arguments, for `touches` and `says`."""
        return "\n".join(
            part.decode(errors="replace") if isinstance(part, bytes) else str(part)
            for command in self.commands
            for part in command
        )

    def touches(self, key: str) -> bool:
        """Whether this key is an argument of one of its commands."""
        return f"\n{key}\n" in f"\n{self.text}\n"

    def says(self, *parts: str) -> bool:
        """Whether its commands contain these texts."""
        return all(part in self.text for part in parts)

    @cached_property
    def words(self) -> str:
        """The commands in a few words."""
        return " · ".join(map(described, self.commands))[:300]

    def __repr__(self) -> str:
        return self.words


@cache
def named_scripts() -> dict[str, str]:
    """The names of the product's scripts, by their texts."""
    files = [file for folder in ("plugins", "services") for file in (ROOT / folder).rglob("*.lua")]
    return {bare(scripts.read(file.name, str(file))): file.stem for file in files}


@cache
def bare(script: str) -> str:
    """The script without flags, blank lines and comments."""
    lines = [line.strip() for line in script.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith(("--", "#!")))


def described(command: Command) -> str:
    """A command in a few words."""
    name, *parts = command
    if name in ("EVAL", "EVAL_RO"):
        script, count, *parts = parts
        name = named_scripts().get(bare(script)) or "script " + " ".join(re.findall(r"call\('(\w+)'", script))
        parts = [*parts[:count], *(part for part in parts[count:] if part not in ("", b""))]
    said = [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in parts[:9]]
    return short(" ".join([str(name), *(part if len(part) <= 48 else part[:45] + "…" for part in said)]))


class Message:
    """A published message, or the confirmation of a subscription, on its way to one connection."""

    def __init__(self, connection: SimulatedConnection, kind: bytes, channel: bytes, data: Any) -> None:
        self.connection = connection
        self.line = [kind, channel, data]

    def __repr__(self) -> str:
        kind, channel, data = self.line
        text = data.decode(errors="replace")[:60] if isinstance(data, bytes) else ""
        return short(f"{kind.decode()} {channel.decode()} {text}".rstrip())


class Simulator:
    """Holds the steps of all processes, and lets them go one by one."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clock = Clock()
        self.waiting: list[Step] = []
        self.replies: list[Step] = []  # executed, not received
        self.strays: list[list[Command]] = []  # commands whose connection broke before they arrived
        self._dead: list[Process] = []  # since the last time that nothing was ready to run
        self.messages: dict[SimulatedConnection, deque[Message]] = {}
        self.connections: dict[SimulatedConnection, None] = {}
        self.crashes: list[str] = []  # of the product's code
        self.down = False  # Redis refuses connections
        self.steps = 0
        self._story: list[tuple[float, object, object, object]] = []
        self._over = False
        self._loop: Loop
        self._tasks: set[asyncio.Task[Any]] = set()

    # A run

    def run(self, schedule: Callable[[], Coroutine[Any, Any, T]], seed: int = 0) -> T:
        """Run this schedule, on an empty Redis. An error shows the steps that led to it."""
        self.server.reset()
        configured = structlog.get_config()
        self.hear_logs()
        self._loop = Loop(self.clock)
        self._loop.set_exception_handler(self._on_unhandled)
        self._loop.set_task_factory(self._task)
        try:
            with seeded(seed), self.clock.installed():
                try:
                    return self._loop.run_until_complete(schedule())
                except (Exception, AssertionError) as error:
                    error.add_note(self.story())
                    raise
                finally:
                    self._over = True
                    self._loop.run_until_complete(self._end())
                    self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            structlog.configure(**configured)

    async def _end(self) -> None:
        for _ in range(50):
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            if not rest:
                return
            for task in rest:
                task.cancel()
            await self.settle()

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
        # Tasks of dead processes are never woken, so nothing else would refer to them.
        task = asyncio.Task(work, loop=loop, **options)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _on_unhandled(self, _: object, context: dict[str, Any]) -> None:
        if self._over:
            return
        what = context.get("task") or context.get("future") or context.get("handle")
        said = f"{context['message']}: {context.get('exception')!r} {what!r}"
        self.tell(PROCESS.get() or "", said)
        if not said.startswith("Future "):  # the error that a request has got, and did not wait for
            self.crashes.append(said)

    def hear_logs(self) -> None:
        """Let the product's log lines be lines of the schedule."""
        structlog.configure(processors=[self._on_log], cache_logger_on_first_use=False)

    def _on_log(self, _: object, level: str, event: MutableMapping[str, Any]) -> Any:
        more = (f"{name}={value}" for name, value in event.items() if name != "event")
        said = " ".join([str(event["event"]), *more])
        if "crashed" in said or said.startswith(("tail failed", "stream failed", "attempt crashed")):
            self.crashes.append(said)
        self.tell(PROCESS.get() or "", f"logs: {short(said)}"[:300])
        raise structlog.DropEvent

    # The story

    def tell(self, process: object, event: object, remark: object = "") -> None:
        """Add a line to the schedule."""
        self._story.append((self.clock.now, process, event, remark))

    def story(self) -> str:
        """The schedule so far: times, processes, commands, verdicts."""
        begin = self._story[0][0] if self._story else 0
        lines = [
            f"{at - begin:9.3f}  {process!s:<4} {event.words if isinstance(event, Step) else event}"
            + (f"  [{remark}]" if remark else "")
            for at, process, event, remark in self._story
            if remark or not ROUTINE.match(str(event))
        ]
        left_out = [f"… {len(lines) - SHOWN} steps before"] if len(lines) > SHOWN else []
        return "\n".join(["The schedule:", *left_out, *lines[-SHOWN:]])

    # Steps of processes

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin this in the process."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        return asyncio.get_running_loop().create_task(work, context=context)

    def simulated(self, process: Process, pool: ConnectionPool) -> ConnectionPool:
        """Let this pool of the product make simulated connections, which belong to the process."""
        mine = {"simulator": self, "process": process}
        pool.connection_class = type("SimulatedConnection", (SimulatedConnection,), mine)
        return pool

    async def send(self, connection: SimulatedConnection, commands: list[Command]) -> list[Any]:
        """Let these commands be a step, and return their answers."""
        if self._over:
            raise asyncio.CancelledError
        step = Step(connection.process, commands, connection, self.clock.now)
        (first, *_) = commands
        if first[0] == "XREADGROUP" and b"BLOCK" in first:  # as redis-py sends it
            at = first.index(b"BLOCK")
            step.read_until = self.clock.now + int(first[at + 1]) / 1_000
            step.commands = [(*first[:at], *first[at + 2 :])]
        answers: list[Any] = await self._wait(step)
        return answers

    async def work(self, words: str) -> None:
        """Let a piece of a function's work be a step."""
        process = PROCESS.get()
        if self._over or process is None:
            raise asyncio.CancelledError
        await self._wait(Step(process, [(words,)], None, self.clock.now))

    async def _wait(self, step: Step) -> Any:
        self.waiting.append(step)
        try:
            return await step.answered
        finally:
            for steps in (self.waiting, self.replies):
                if step in steps:  # its task was cancelled
                    steps.remove(step)
                    if steps is self.waiting and not step.is_work and not self._over:
                        self.strays.append(step.commands)

    def subscribe(self, connection: SimulatedConnection, command: Command) -> None:
        """Subscribe or unsubscribe this connection, and confirm it."""
        # The hub's channels are a set, whose order differs from run to run.
        for channel in sorted(name if isinstance(name, bytes) else name.encode() for name in command[1:]):
            if command[0] == "SUBSCRIBE":
                connection.channels[channel] = None
            else:
                connection.channels.pop(channel, None)
            kind = command[0].lower().encode()
            self._queue(Message(connection, kind, channel, len(connection.channels)))

    def _queue(self, message: Message) -> None:
        self.messages.setdefault(message.connection, deque()).append(message)

    # Decisions about steps

    async def settle(self) -> None:
        """Let all processes go on until each waits."""
        idle = False
        while not idle:
            await asyncio.sleep(0)
            idle = self._loop.idle
        # Code of theirs that was ready to run has run.
        for process in self._dead:
            process.ended()
        self._dead.clear()

    def let(self, step: Step, verdict: Verdict = Verdict.GO, *, commands: int = 0) -> None:
        """Decide about a step. `commands` of its commands are executed before it is cut, or before Redis is full."""
        self.steps += 1
        if step in self.replies:
            self.replies.remove(step)
            self.tell(step.process, step, "reply arrives")
            step.answered.set_result(step.outcome)
            return
        self.waiting.remove(step)
        if step.is_work:
            self.tell(step.process, step)
            step.answered.set_result(None)
            return
        outcome: Any = RedisConnectionError("simulated: connection lost")
        match verdict:
            case Verdict.NEVER_ARRIVED:
                pass
            case Verdict.LATER:
                self.strays.append(step.commands)
            case Verdict.CUT:
                self._execute(step, step.commands[:commands])
            case Verdict.FULL:
                outcome = self._execute(step, step.commands[:commands])
                with self.server.full():
                    outcome += self._execute(step, step.commands[commands:])
            case _:
                if verdict is Verdict.TWICE:
                    self._execute(step, step.commands)
                outcome = self._execute(step, step.commands)
                if self._reads_on(step, outcome):
                    step.blocked = True
                    self.waiting.append(step)
                    return
                if verdict is Verdict.REPLY_LOST:
                    outcome = RedisConnectionError("simulated: reply lost")
        self.tell(step.process, step, "" if verdict is Verdict.GO else verdict)
        if verdict is Verdict.REPLY_LATER or (step.process.frozen and not isinstance(outcome, Exception)):
            step.outcome = outcome
            self.replies.append(step)
        else:
            self._answer(step, outcome)

    def _answer(self, step: Step, outcome: Any) -> None:
        """Let the process have this outcome: when it wakes, if it is frozen."""
        if step.answered.done():
            return
        if step.process.frozen:
            step.process.late.append(lambda: self._answer(step, outcome))
        elif isinstance(outcome, Exception):
            step.answered.set_exception(outcome)
            step.answered.exception()  # its task may have been cancelled: asyncio need not tell
        else:
            step.answered.set_result(outcome)

    def _execute(self, step: Step | None, commands: list[Command]) -> list[Any]:
        protocol = step.connection.protocol if step and step.connection else 2
        answers = self.server.execute(commands, protocol)
        for channel, data in self.server.heard():
            for connection in self.connections:
                if channel in connection.channels and not connection.process.dead:
                    self._queue(Message(connection, b"message", channel, data))
        if any("XADD" in str(part) or "XCLAIM" in str(part) for command in commands for part in command[:2]):
            for waiting in self.waiting:
                waiting.blocked = False
        return answers

    def _reads_on(self, step: Step, answers: list[Any]) -> bool:
        return step.read_until is not None and not answers[0] and self.clock.now < step.read_until

    def arrive(self, index: int = 0) -> None:
        """Let commands arrive whose connection broke long ago. There is no client any more that waits for the reply."""
        commands = self.strays.pop(index)
        self.tell("", " · ".join(map(described, commands))[:300], "arrives late")
        self._execute(None, commands)

    def deliver(self, connection: SimulatedConnection, *, lost: bool = False) -> None:
        """Let the next message to this connection arrive, or be lost. A confirmation is not lost alone."""
        message = self.messages[connection].popleft()
        lost = lost and message.line[0] == b"message"
        if not self.messages[connection]:
            del self.messages[connection]
        if connection.is_connected and not connection.process.dead:
            self.tell(connection.process, message, "lost" if lost else "arrives")
            if not lost:
                connection.receive(message.line)

    @property
    def deliverable(self) -> list[SimulatedConnection]:
        """Connections to which a message is on its way."""
        return [each for each in self.messages if not each.process.frozen and not each.process.dead]

    # Time

    def advance(self, seconds: float) -> None:
        """Move all clocks. Commands that wait too long for their replies have timed out."""
        self._move_to(self.clock.now + seconds)

    def _move_to(self, now: float) -> None:
        self.clock.now = self.server.now = max(self.clock.now, now)
        self._time_out()

    def _time_out(self) -> None:
        for step in [*self.waiting, *self.replies]:
            if step.process.frozen or step.process.dead or step.answered.done():
                continue
            if step.read_until is not None and step in self.waiting:
                step.blocked = step.blocked and self.clock.now < step.read_until
            elif step.deadline is not None and self.clock.now >= step.deadline:
                self.tell(step.process, step, "times out")
                self._answer(step, RedisTimeoutError("simulated: no answer"))

    @property
    def next_due(self) -> float | None:
        """When the next timer of a living process is due, or the next blocking read has its answer."""
        reads = [step.read_until for step in self.waiting if step.blocked and step.read_until and self._alive(step)]
        return min([*reads, *([] if (timer := self._loop.next_timer) is None else [timer])], default=None)

    # Faults

    def die(self, process: Process) -> None:
        """End a process as kill -9 does. Commands that it had sent may arrive."""
        self.tell(process, "is killed")
        process.dead = True
        self._dead.append(process)
        for step in [step for step in self.waiting if step.process is process]:
            self.waiting.remove(step)
            if not step.is_work:
                self.strays.append(step.commands)
        self.replies = [step for step in self.replies if step.process is not process]
        for connection in [each for each in self.connections if each.process is process]:
            self.messages.pop(connection, None)
            del self.connections[connection]

    def freeze(self, *processes: Process) -> None:
        """Stop these processes as SIGSTOP does."""
        for process in processes:
            self.tell(process, "freezes")
            process.frozen = True

    def wake(self, *processes: Process) -> None:
        """Let these processes go on. Timers that were due meanwhile fire now."""
        for process in processes:
            self.tell(process, "wakes up")
            process.frozen = False
            late, process.late = process.late, []
            for timer in late:
                timer()
        self._time_out()

    def break_connections(self, process: Process | None = None) -> None:
        """Break all connections, or those of a process. Commands under way never arrive."""
        for step in [step for step in [*self.waiting, *self.replies] if not step.is_work]:
            if process in (None, step.process) and not step.answered.done():
                for steps in (self.waiting, self.replies):
                    if step in steps:
                        steps.remove(step)
                self._answer(step, RedisConnectionError("simulated: connection lost"))
        for connection in [each for each in self.connections if process in (None, each.process)]:
            self.messages.pop(connection, None)
            connection.lose()

    def lose_data(self, snapshot: Snapshot) -> None:
        """Let Redis crash, and come back as it was at this snapshot."""
        self.tell("redis", "crashes, and comes back as it was")
        self.strays.clear()
        self.break_connections()
        self.server.restore(snapshot)

    # Driving

    def _alive(self, step: Step) -> bool:
        return not (step.process.dead or step.process.frozen)

    def ready(self, *processes: Process) -> list[Step]:
        """Steps, of these processes or all, that can be let go now. Work of functions comes last."""
        steps = [
            step
            for step in [*self.replies, *self.waiting]
            if self._alive(step) and not step.blocked and not step.answered.done()
        ]
        return sorted([s for s in steps if not processes or s.process in processes], key=lambda step: step.is_work)

    def _unheld(self, *processes: Process) -> Iterator[Step]:
        return (step for step in self.ready(*processes) if not step.is_work)

    async def go(self, *processes: Process, work: bool = False, messages: bool = True) -> None:
        """Let these processes, or all, go on until none of them waits for Redis; with `work`, functions work as well.

        Published messages arrive at once.
        """
        for _ in range(MAX_STEPS):
            await self.settle()
            if messages and self._deliver_all():
                continue
            steps = self.ready(*processes) if work else list(self._unheld(*processes))
            if not steps:
                return
            self.let(steps[0])
        raise AssertionError("the schedule does not come to rest")

    def _deliver_all(self) -> bool:
        found = self.deliverable
        for connection in found:
            self.deliver(connection)
        return bool(found)

    async def find(
        self, matches: Callable[[Step], bool], *processes: Process, work: bool = False, messages: bool = True
    ) -> Step | None:
        """Let these processes, or all, go on until a step matches, and leave that one waiting.

        Return None if they come to rest before.
        """
        for _ in range(MAX_STEPS):
            await self.settle()
            steps = self.ready(*processes)
            if found := next(filter(matches, steps), None):
                return found
            if messages and self._deliver_all():
                continue
            rest = [step for step in steps if work or not step.is_work]
            if not rest:
                return None
            self.let(rest[0])
        raise AssertionError("the schedule does not come to rest")

    async def until(
        self, matches: Callable[[Step], bool], *processes: Process, work: bool = False, messages: bool = True
    ) -> Step:
        """As `find`, for a step that must come."""
        step = await self.find(matches, *processes, work=work, messages=messages)
        assert step is not None, "no such step"
        return step

    async def passes(self, seconds: float, *processes: Process, work: bool = False) -> None:
        """Let these processes, or all, go on for so long. Nothing is late."""
        over = self.clock.now + seconds
        while True:
            await self.go(*processes, work=work)
            due = self.next_due
            if due is None or due >= over:
                break
            self._move_to(due)
        self._move_to(over)
        await self.go(*processes, work=work)

    async def come_true(
        self, check: Callable[[], bool], within_s: float, *processes: Process, work: bool = True
    ) -> float | None:
        """Let these processes, or all, go on until it is so. Return the seconds that took, or None: too long."""
        begin = self.clock.now
        while True:
            await self.go(*processes, work=work)
            if check():
                return self.clock.now - begin
            due = self.next_due
            if due is None or due > begin + within_s:
                return None
            self._move_to(due)
