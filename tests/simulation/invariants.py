"""The promises of docs/reliability.md that every history is held to, each in one place."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from plugins import entries, keys
from tests.simulation.system import API_SETTINGS, System, WorkerProcess


class Ended(NamedTuple):
    """A task at the end of a history: its log and its metadata as Redis has them, and what a user is told."""

    task_id: str
    function: str
    log: list[entries.Entry]
    metadata: dict[str, str]
    told: Any  # by GET; None: there is no such task
    promised: str | None  # the status that a DELETE has answered
    system: System


# Promises about one task. Each function yields what is wrong.
Check = Callable[[Ended], Iterator[str]]
PROMISES: Final[dict[str, Check]] = {}

# Promises that do not hold if Redis loses its last second (docs/reliability.md, "What is not promised").
NOT_AFTER_LOSSES: Final = frozenset(
    {
        "a DELETE says which end it is",  # the end, and the task, may be lost with it
        "an attempt begins once",  # a claim that was lost is granted again
        "limits hold",  # a worker whose claim was lost runs on beside its successor
        "one task per key",  # the key may be lost
        "an accepted task exists",  # so may the task
    }
)


def promise(name: str) -> Callable[[Check], Check]:
    """Name a promise."""

    def add(check: Check) -> Check:
        PROMISES[name] = check
        return check

    return add


@promise("a task has one end")
def one_end(task: Ended) -> Iterator[str]:
    """The last entry is an end, and no other is."""
    ends = [entry.seq for entry in task.log if entry.ends]
    if ends != [len(task.log) - 1]:
        yield f"ends at {ends} of {len(task.log)} entries, status {task.metadata.get('status')}"


@promise("entries have no gap")
def no_gap(task: Ended) -> Iterator[str]:
    """Their seqs are 0, 1, 2, …"""
    seqs = [entry.seq for entry in task.log]
    if seqs != list(range(len(seqs))):
        yield f"seqs {seqs}"


@promise("attempts never go back")
def attempts_in_order(task: Ended) -> Iterator[str]:
    """No entry of an attempt follows one of a later attempt."""
    attempts = [entry.attempt for entry in task.log]
    if attempts != sorted(attempts):
        yield f"attempts {attempts}"


@promise("no more attempts than the policy allows")
def attempts_bounded(task: Ended) -> Iterator[str]:
    """Neither in the metadata nor in the log."""
    most = task.system.plugins[task.function].policy.retries + 1
    attempts = [int(task.metadata.get("attempt", 0)), *(entry.attempt for entry in task.log)]
    if max(attempts) > most:
        yield f"attempt {max(attempts)} of {most}"


@promise("an attempt begins once")
def begins_once(task: Ended) -> Iterator[str]:
    """Its function does."""
    for (task_id, attempt), times in task.system.begun.items():
        if task_id == task.task_id and times > 1:
            yield f"attempt {attempt} began {times} times"


@promise("the log is what the function yields")
def output(task: Ended) -> Iterator[str]:
    """A reader that heeds the marks has all of it if the task is done, else a beginning."""
    view, seen, chunks = task.system.view(task.task_id), {0, 1}, task.system.chunks[task.function]
    for entry in task.log:
        if entry.event == "attempt":
            seen.add(entry.attempt)
        elif not entry.ends and entry.attempt not in seen:
            yield f"an entry of attempt {entry.attempt} without its mark"
    if view != list(range(len(view))):
        yield f"not a beginning: {view}"
    if task.log and task.log[-1].event == "done":
        if view != list(range(chunks)):
            yield f"done with {view}, and not with {chunks} chunks"
        if json.loads(bytes(task.log[-1].data)) != {"chunks": chunks}:
            yield f"done says {task.log[-1].data!r}, and there are {chunks} chunks"


@promise("the status is the end")
def status(task: Ended) -> Iterator[str]:
    """In the metadata, and in the answer to GET."""
    end = task.log[-1].event if task.log else None
    if not end == task.metadata.get("status") == (task.told or {}).get("status"):
        yield f"end {end}, recorded {task.metadata.get('status')}, told {(task.told or {}).get('status')}"


@promise("an input does not outlive its task for long")
def task_input(task: Ended) -> Iterator[str]:
    """It is kept for as long as the API says after the end."""
    left = task.system.server.call("TTL", keys.task_input(task.task_id))
    if left > API_SETTINGS.input_ttl_s:
        yield f"the input is kept for {left} s"


@promise("a DELETE says which end it is")
def deleted(task: Ended) -> Iterator[str]:
    """The end that it has answered stays."""
    if task.promised is not None and task.log and task.log[-1].event != task.promised:
        yield f"a DELETE answered {task.promised}, the end is {task.log[-1].event}"


def exceeded(system: System) -> Iterator[str]:
    """Limits hold: no more functions of one limit run than it allows, as long as their workers are in touch."""
    running = defaultdict(list)
    for run in system.running:
        worker = run.process
        if not worker.dead and isinstance(worker, WorkerProcess) and worker.in_touch(run.task_id, run.attempt):
            running[run.function].append(f"{run.task_id[:4]}:{run.attempt} on {worker}")
    for name, runs in running.items():
        allowed = system.plugins[name].policy.concurrency
        if allowed is not None and len(runs) > allowed:
            yield f"{name} allows {allowed}, and these run: {', '.join(runs)}"


def beyond_shares(system: System) -> Iterator[str]:
    """Shares hold: no more tasks of one owner run in a worker than its share, as long as the worker is in touch."""
    running: Counter[WorkerProcess] = Counter()
    for run in system.running:
        worker = run.process
        if isinstance(worker, WorkerProcess) and not worker.dead and worker.in_touch(run.task_id, run.attempt):
            running[worker] += 1
    for worker, many in running.items():
        if many > worker.most:
            yield f"{worker} may run {worker.most}, and runs {many}"


# Ids of all tasks, or of those whose log has no end. A worker may record the end of a task that Redis has lost: there
# is no such task.
TASKS: Final = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'stream:*:metadata')) do
  local task = string.sub(key, 8, -10)
  local line = redis.call('LINDEX', 'stream:' .. task .. ':chunks', -1) or ''
  local event = string.match(line, '^{"event":"([%w_.-]+)"')
  local over = event == 'done' or event == 'failed' or event == 'cancelled'
  if redis.call('HEXISTS', key, 'function') == 1 and (ARGV[1] == 'all' or not over) then found[#found + 1] = task end
end
return found"""


def tasks(system: System) -> list[str]:
    """The tasks that exist."""
    return sorted(task.decode() for task in system.server.call("EVAL", TASKS, 0, "all"))


def not_over(system: System) -> list[str]:
    """The tasks that have not ended."""
    return sorted(task.decode() for task in system.server.call("EVAL", TASKS, 0, "open"))


def tidy(system: System) -> bool:
    """Whether nothing is left behind; quick to answer no."""
    index, queue = system.server.execute([("ZCARD", keys.OPEN), ("XLEN", keys.QUEUE)])
    return not (index or queue or left_behind(system))


def left_behind(system: System) -> dict[str, Any]:
    """Nothing is left behind: what is in the index, on the queue, at limits and in parked sets."""
    call = system.server.call
    found: dict[str, Any] = {
        "index": call("ZRANGE", keys.OPEN, 0, -1, "WITHSCORES"),
        "queue": call("XLEN", keys.QUEUE),
        "functions": [str(run) for run in system.running if not run.process.dead],
        "parked": [name for name in system.plugins if call("ZCARD", keys.parked(name))],
        "parked by owner": call("KEYS", f"{keys.PARKED_BY_OWNER}:*"),
        "limits": [
            members
            for key in call("KEYS", f"{keys.LIMIT_PREFIX}*")
            if (members := call("ZRANGEBYSCORE", key, "-inf", "(100000000000000"))
        ],
    }
    return {what: value for what, value in found.items() if value}
