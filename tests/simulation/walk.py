"""One random history of a system: requests, faults and time by lot, then calm; and what it must have come to."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from plugins import Context, keys
from tests.simulation import invariants
from tests.simulation.clock import Process
from tests.simulation.invariants import Ended
from tests.simulation.reader import Reader, as_read
from tests.simulation.simulator import Simulator, Step, Verdict
from tests.simulation.system import Answer, ApiProcess, Body, System, WorkerProcess

WORKERS: Final = 3

# Seconds of calm within which every task has ended, and everything is tidied up: leases, back-offs and looks at tasks
# that have waited for long come one after the other.
ENDED_S: Final = 400
TIDY_S: Final = 800

# Seconds after that within which every reader has the end: a heartbeat, and a few back-offs.
READ_S: Final = 60

# How many of the tasks have a reader.
READ: Final = 0.4

# Tasks, and requests at once, of a history; deaths, and losses of data.
MAX_TASKS: Final = 7
MAX_REQUESTS: Final = 4
MAX_DEATHS: Final = 3
MAX_LOSSES: Final = 2

# Seconds of data that Redis loses at most.
LOST_S: Final = 1.0

# The ways in which a command goes, and how often of a hundred times.
VERDICTS: Final = {
    Verdict.GO: 85,
    Verdict.REPLY_LATER: 5,
    Verdict.REPLY_LOST: 3,
    Verdict.NEVER_ARRIVED: 2,
    Verdict.TWICE: 1,
    Verdict.LATER: 2,
    Verdict.CUT: 1,
    Verdict.FULL: 1,
}


class FailedError(Exception):
    """A function fails, by lot."""


class Submission(NamedTuple):
    """A POST under way."""

    answer: "asyncio.Task[Answer]"
    api: ApiProcess
    function: str
    key: str | None


class History:
    """A history that its seed determines. `losses`: Redis may lose its last second."""

    def __init__(self, simulator: Simulator, seed: int, *, losses: bool) -> None:
        self._dice = random.Random(seed)
        self._losses = losses
        self._simulator = simulator
        self.system = System(simulator)
        self.violations: list[str] = []
        self._apis: list[ApiProcess] = []
        self._workers: list[WorkerProcess] = []
        self._tick = 0
        self._frozen: dict[Process, int] = {}  # until this tick
        self._submissions: list[Submission] = []
        self._others: list[tuple[asyncio.Task[Answer], ApiProcess, str | None]] = []  # with the task of a DELETE
        self._accepted: dict[str, str] = {}  # functions of tasks
        self._by_key: dict[str, set[str]] = defaultdict(set)
        self._promised: dict[str, str] = {}
        self._readers: list[Reader] = []
        self._deaths = self._lost = 0
        self._snapshot: tuple[float, Any] = (0, None)
        self._skewed = self._dice.random() < 0.3

    async def run(self) -> None:
        """Let it happen, and check what it came to."""
        dice = self._dice
        self._declare()
        self.system.on_begin = lambda _: self._check_bounds()
        for _ in range(2):
            self._new_api()
        for _ in range(WORKERS):
            self._new_worker()
        await self._simulator.go()
        for self._tick in range(dice.randint(80, 240)):
            await self._simulator.settle()
            self._reap()
            for process in [process for process, until in self._frozen.items() if until <= self._tick]:
                self._wake(process)
            for worker in [worker for worker in self._workers if worker.dead]:
                self._replace(worker)
            self._act()
        await self._calm_down()
        await self._check()

    # The system

    def _declare(self) -> None:
        dice, retries = self._dice, self._dice.choice
        functions: dict[str, dict[str, Any]] = {
            "limited": {"concurrency": dice.choice([1, 1, 2]), "backoff": 1},
            "free": {"backoff": 1},
            "rated": {"concurrency": dice.choice([None, 2]), "rate": dice.choice(["2/s", "3/m"]), "backoff": 0},
        }
        for name, options in functions.items():
            chunks, resumable = dice.randint(0, 4), dice.random() < 0.4
            body = self._body(chunks, dice.choice([0, 0.1]), dice.randint(0, 2))
            self.system.declare(name, chunks, body=body, resumable=resumable, retries=retries([0, 1, 2]), **options)

    def _body(self, chunks: int, fails: float, clean_up: int) -> Body:
        work, dice = self._simulator.work, self._dice

        async def body(context: Context) -> AsyncIterator[int]:
            whose = f"for {context.task_id[:4]}:{context.attempt}"
            try:
                for number in range(len(context.yielded), chunks):
                    await work(f"works at {number} {whose}")
                    if dice.random() < fails:
                        raise FailedError
                    yield number
            except asyncio.CancelledError:
                for _ in range(clean_up):
                    await work(f"cleans up {whose}")
                raise

        return body

    def _skew(self) -> float:
        return self._dice.choice([-3, 0, 0, 3]) if self._skewed else 0

    def _new_api(self) -> None:
        self._apis.append(self.system.api(f"A{len(self.system.processes)}", self._skew()))

    def _new_worker(self) -> None:
        name, slots = f"W{len(self.system.processes)}", self._dice.choice([1, 2, 4])
        self._workers.append(self.system.worker(name, slots, self._skew(), self._dice.choice([None, 50, 50])))

    def _check_bounds(self) -> None:
        self.violations += [f"limits hold: {wrong}" for wrong in invariants.exceeded(self.system)]
        self.violations += [f"shares hold: {wrong}" for wrong in invariants.beyond_shares(self.system)]

    # Acts

    def _act(self) -> None:
        dice, simulator = self._dice, self._simulator
        if self._losses and dice.random() < 0.2:
            self._snapshot = (simulator.clock.now, self.system.server.snapshot())
        lot = dice.random()
        acts = [
            (0.62, self._step),
            (0.13, self._time),
            (0.07, self._message),
            (0.02, self._stray),
            (0.05, self._submit),
            (0.02, self._cancel),
            (0.01, self._pause),
            (0.02, self._freeze),
            (0.003, self._freeze_all),
            (0.015, self._kill),
            (0.006, self._stop),
            (0.006, self._break),
            (0.03, self._lose),
        ]
        for share, act in acts:
            lot -= share
            if lot < 0:
                act()
                return

    def _step(self) -> None:
        dice, simulator = self._dice, self._simulator
        # Commands of a frozen process may be on their way.
        steps = [
            step
            for step in [*simulator.replies, *simulator.waiting]
            if not (step.process.dead or step.blocked or step.answered.done())
            and not (step.process.frozen and (step.is_work or step in simulator.replies))
        ]
        if not steps:
            return self._time()
        step = dice.choice(steps[:6] if dice.random() < 0.5 else steps)
        if step.is_work or step in simulator.replies or step.read_until is not None:
            return simulator.let(step)
        (verdict,) = dice.choices(list(VERDICTS), list(VERDICTS.values()))
        return simulator.let(step, verdict, commands=self._cut(step))

    def _cut(self, step: Step) -> int:
        whole = step.commands[0][0] == "MULTI"  # a transaction that is cut is not executed
        return 0 if whole else self._dice.randrange(len(step.commands))

    def _time(self) -> None:
        dice, simulator = self._dice, self._simulator
        due = simulator.next_due
        if due is not None and dice.random() < 0.6:
            simulator.advance(max(0, min(due - simulator.clock.now, 5)))
        elif dice.random() < 0.85:
            simulator.advance(dice.choice([0.01, 0.05, 0.2, 0.5, 1]))
        else:
            simulator.advance(dice.choice([2, 5, 5, 16]))

    def _message(self) -> None:
        if found := self._simulator.deliverable:
            self._simulator.deliver(self._dice.choice(found), lost=self._dice.random() < 0.1)

    def _stray(self) -> None:
        if self._simulator.strays:
            self._simulator.arrive(self._dice.randrange(len(self._simulator.strays)))

    def _submit(self) -> None:
        dice = self._dice
        if len(self._submissions) >= MAX_REQUESTS or len(self._accepted) >= MAX_TASKS:
            return
        name = dice.choice(["limited", "limited", "free", "rated"])
        key = f"k{self._tick}" if dice.random() < 0.5 else None
        for api in self._apis if key and dice.random() < 0.5 else [dice.choice(self._apis)]:
            self._post(api, name, key)

    def _post(self, api: ApiProcess, name: str, key: str | None) -> None:
        self._simulator.tell("user", f"POST {name} {key or ''} to {api}")
        self._submissions.append(Submission(api.submit(name, key=key), api, name, key))

    def _cancel(self) -> None:
        if self._accepted:
            task, api = self._dice.choice(list(self._accepted)), self._dice.choice(self._apis)
            self._simulator.tell("user", f"DELETE {task[:4]} at {api}")
            self._others.append((api.cancel(task), api, task))

    def _pause(self) -> None:
        name, method = self._dice.choice(["limited", "free"]), self._dice.choice(["PUT", "DELETE", "DELETE"])
        api = self._dice.choice(self._apis)
        self._simulator.tell("user", f"{method} paused {name} at {api}")
        self._others.append((api.request(method, f"/functions/{name}/paused"), api, None))

    def _freeze(self) -> None:
        process = self._dice.choice([*self._apis, *self._workers])
        if not process.frozen:
            self._simulator.freeze(process)
            self._frozen[process] = self._tick + self._dice.randint(5, 60)

    def _freeze_all(self) -> None:
        everything: list[Process] = [*self._apis, *(self._workers if self._dice.random() < 0.5 else [])]
        self._simulator.freeze(*(process for process in everything if not process.frozen))
        self._simulator.advance(20)
        for process in self._dice.sample(everything, len(everything)):
            self._wake(process)

    def _wake(self, process: Process) -> None:
        self._frozen.pop(process, None)
        if process.frozen and not process.dead:
            self._simulator.wake(process)

    def _kill(self) -> None:
        if self._deaths >= MAX_DEATHS:
            return
        self._deaths += 1
        process = self._dice.choice([*self._apis, *self._workers])
        self._simulator.die(process)
        self._replace(process)

    def _replace(self, process: Process) -> None:
        if isinstance(process, ApiProcess):
            self._apis.remove(process)
            self._new_api()
        elif isinstance(process, WorkerProcess):
            self._workers.remove(process)
            self._new_worker()

    def _stop(self) -> None:
        worker = self._dice.choice(self._workers)
        if worker.worker is not None and not worker.frozen:
            worker.stop()
            self._replace(worker)

    def _break(self) -> None:
        process = self._dice.choice([*self._apis, *self._workers])
        self._simulator.tell(process, "loses its connections")
        self._simulator.break_connections(process)

    def _lose(self) -> None:
        at, snapshot = self._snapshot
        recent = snapshot is not None and self._simulator.clock.now - at <= LOST_S
        if self._losses and recent and self._lost < MAX_LOSSES:
            self._lost += 1
            self._simulator.lose_data(snapshot)

    def _reap(self) -> None:
        """Take what has been answered. A client repeats a request with its key if it was not answered; a reader comes
        back.
        """
        for reader in self._readers:
            reader.follow()
        for submission in list(self._submissions):
            answer, api, name, key = submission
            if not (answer.done() or api.dead):
                continue
            self._submissions.remove(submission)
            if answer.done() and answer.result().status == 202:
                task = answer.result().json["task_id"]
                if task not in self._accepted and self._dice.random() < READ:
                    self._readers.append(Reader(task, lambda: self._dice.choice(self._apis)))
                self._accepted[task] = name
                if key is not None:
                    self._by_key[key].add(task)
            elif answer.done() and answer.result().status not in (404, 503):
                self.violations.append(f"answers: POST is answered {answer.result()}")
            elif key is not None and self._dice.random() < 0.7:
                self._post(self._dice.choice(self._apis), name, key)
        for other in list(self._others):
            answer, api, cancelled = other
            if answer.done() or api.dead:
                self._others.remove(other)
            if answer.done() and cancelled is not None and answer.result().status in (200, 202):
                self._promised[cancelled] = answer.result().json["status"]
            elif answer.done() and answer.result().status not in (200, 202, 204, 404, 503):
                self.violations.append(f"answers: {answer.result()}")

    # Calm

    async def _calm_down(self) -> None:
        simulator, dice = self._simulator, self._dice
        simulator.tell("", "calm")
        for process in list(self._frozen):
            self._wake(process)
        while simulator.strays:
            if dice.random() < 0.5:
                simulator.arrive()
            else:
                simulator.strays.pop()
        await simulator.passes(5, work=True)  # a pause may be under way
        for worker in [worker for worker in self._workers if worker.dead]:
            self._replace(worker)
        while paused := self.system.server.call("SMEMBERS", keys.PAUSED):
            request = self._apis[0].request("DELETE", f"/functions/{paused[0].decode()}/paused")
            assert await simulator.come_true(request.done, 60) is not None, "a request is not answered"
        took = await simulator.come_true(self._all_over, ENDED_S)
        if took is None:
            waiting = [(task[:4], self.system.field(task, "status")) for task in invariants.not_over(self.system)]
            self.violations.append(f"no task waits for ever: these have not ended after {ENDED_S} s: {waiting}")
        elif await simulator.come_true(lambda: invariants.tidy(self.system), TIDY_S) is None:
            self.violations.append(f"nothing is left behind: {invariants.left_behind(self.system)} after {TIDY_S} s")
        if await simulator.come_true(self._all_read, READ_S) is None:
            unread = [reader.task_id[:4] for reader in self._readers if not reader.ended]
            self.violations.append(f"no reader waits for ever: {unread} after {READ_S} s")
        self._reap()

    def _all_over(self) -> bool:
        self._reap()
        return not invariants.not_over(self.system)

    def _all_read(self) -> bool:
        self._reap()
        return all(reader.ended for reader in self._readers)

    def _check_readers(self) -> None:
        for reader in self._readers:
            truth = [as_read(entry) for entry in self.system.log(reader.task_id)]
            if self._lost and not reader.gaps:
                continue  # a reader that comes back to a log that has grown again is not told
            if reader.seen != truth:
                what = f"{reader.task_id[:4]} saw {reader.seen}, the log has {truth}, {reader.gaps} gaps"
                self.violations.append(f"a reader sees every entry once: {what}")
            if reader.gaps and not self._lost:
                self.violations.append(f"no gap without a loss: {reader.task_id[:4]}")

    async def _check(self) -> None:
        self._check_readers()
        for task in invariants.tasks(self.system):
            fields = self.system.server.call("HGETALL", keys.metadata(task))
            metadata = dict(zip(*[iter(part.decode() for part in fields)] * 2, strict=True))
            told = self._apis[0].request("GET", f"/tasks/{task}")
            await self._simulator.come_true(told.done, 30)
            ended = Ended(
                task,
                metadata["function"],
                self.system.log(task),
                metadata,
                told.result().json if told.done() and told.result().status == 200 else None,
                self._promised.get(task),
                self.system,
            )
            for name, check in invariants.PROMISES.items():
                self.violations += [f"{name}: {task[:4]} {wrong}" for wrong in check(ended)]
        there = set(invariants.tasks(self.system))
        self.violations += [f"an accepted task exists: {task[:4]}" for task in self._accepted if task not in there]
        self.violations += [f"one task per key: {key} {ids}" for key, ids in self._by_key.items() if len(ids) > 1]
        self.violations += [f"code does not crash: {crash}" for crash in self._simulator.crashes]
        if self._lost:
            self.violations = [
                each for each in self.violations if each.partition(":")[0] not in invariants.NOT_AFTER_LOSSES
            ]

    @property
    def entries_read(self) -> int:
        """How many entries readers have seen."""
        return sum(len(reader.seen) for reader in self._readers)

    @property
    def tasks(self) -> int:
        """How many tasks were accepted."""
        return len(self._accepted)


def play(simulator: Simulator, seed: int, *, losses: bool) -> History:
    """Play the history of this seed.

    Raises:
        AssertionError: a promise is broken; it says which, and has the schedule.
    """
    made: list[History] = []

    async def schedule() -> None:
        made.append(History(simulator, seed, losses=losses))
        await made[0].run()
        assert not made[0].violations, "\n".join([f"SIMULATION_SEED={seed}", *made[0].violations])

    try:
        simulator.run(schedule, seed)
    except Exception as error:
        error.add_note(f"SIMULATION_SEED={seed} repeats this history{' (with lost data)' if losses else ''}.")
        raise
    return made[0]
