"""Every name in Redis and every lifetime, each once.

A key without a lifetime is a bug. Those in `PERMANENT` are the exceptions: they are empty when nothing runs and nothing
is paused.
The braces in the comments are Python's, not Redis hash tags. A script touches all keys of its step: a task's metadata,
its log, the index, the queue. One server has them all: a single Redis, alone or behind Sentinel, not a Redis Cluster.
"""

import hashlib
import re
from typing import Final

# The log outlives its last append by this long: the time a reader has to come back. (Inherited; clients rely on it.)
CHUNK_TTL_S: Final = 3_600

# What a task is, and how it ended, is kept for a day: longer than any reader is expected to stay away.
TASK_TTL_S: Final = 86_400

# A declaration outlives the last worker that had the function by a week: a weekend without workers forgets nothing.
FUNCTIONS_TTL_S: Final = 604_800

# So long after the first POST with an Idempotency-Key a repeated one finds its task.
IDEMPOTENCY_TTL_S: Final = 86_400

# Sorted set: id of every task that has not ended, and key of every limit at which tickets wait, by the time (s) of the
# next scan. Written by the scripts of both services (create, claim, release, end, limits), read by recovery. An index,
# never the truth.
# A task that waits for a worker, and a limit, have scores of `WAITING` and that time. So they are scanned apart from
# tasks that run, or that are due at a certain time: leases, back-offs, places to release. A claim lowers the score.
OPEN: Final = "tasks:open"
WAITING: Final = 1_000_000_000_000

# Channel: the id of every task that another than its worker has ended, or is about to. Published by the script that
# appends the end, and by the api; every worker listens.
CANCEL: Final = "tasks:cancel"

# Hash: function name -> declaration (`plugins.declaration`). Workers announce, the api reads.
FUNCTIONS: Final = "functions"

# Hash: source -> what is wrong with it (`plugins.declaration.Broken`). Workers repeat it regularly, the api reads.
BROKEN: Final = "functions:broken"

# What no worker has repeated for this long is mended, or its worker has stopped.
BROKEN_TTL_S: Final = 60

# Set: functions that must not be started. Written by the api (PUT and DELETE), read by the workers.
PAUSED: Final = "functions:paused"

# Channel: the name of a function that was paused or resumed, or of which a ticket was parked. Published by both
# services, every worker listens.
FUNCTIONS_CHANGED: Final = "functions:held"

# Sorted set: owner and function of each set of tickets that are parked because their owner has its share of a worker's
# slots (`parked_by_owner`), by the time (µs) when the oldest was parked, or earlier. Its name begins theirs. Written by
# the workers, and by `enqueue.lua` if it was lost; a worker that finds a set empty removes its name. Kept `TASK_TTL_S`
# after the last ticket was parked.
PARKED_BY_OWNER: Final = "owners:parked"

# Channel: owner and function of a ticket that was parked so, if it is the only one or was parked before. Published and
# heard by the workers.
OWNERS_CHANGED: Final = "owners:changed"

# Stream with one consumer group: ids that wait for a worker. The api adds; the worker acknowledges and deletes.
QUEUE: Final = "tailrace:queue"
QUEUE_GROUP: Final = "workers"

# The prefix of the keys of limits.
LIMIT_PREFIX: Final = "gate:"

# The one Taskiq task. Its only argument is the id of the task to run.
RUN: Final = "run"

# The owner of all tasks of an API without authentication. Any other owner is a digest of 32 hexadecimal digits.
ANONYMOUS: Final = "anonymous"

# No lifetime: an index that loses its members as tasks end, a queue that is empty when idle, and what an operator has
# said.
PERMANENT: Final = frozenset({OPEN, QUEUE, PAUSED})

# 128 random bits in hexadecimal, made by the api. Besides, only a function's name, an owner and a digest reach Redis as
# part of a name.
TASK_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)

# Every owner that there may be: `ANONYMOUS`, or a digest.
OWNER: Final = re.compile(rf"[0-9a-f]{{32}}|{ANONYMOUS}", re.ASCII)


def log(task_id: str) -> str:
    """List: the log, one JSON entry (`plugins.entries`) per element, its index the entry's `seq`.

    Written only by `append.lua`: the worker's chunks and ends, the api's ends. Read by the api.
    Kept `CHUNK_TTL_S` after the last append; renewed while the task runs.
    """
    return f"stream:{task_id}:chunks"


def channel(task_id: str) -> str:
    """Channel: every entry, byte for byte as appended. A lost message costs time, never data: the log has the entry."""
    return f"stream:{task_id}"


def metadata(task_id: str) -> str:
    """Hash: what a task is and which worker runs it (`plugins.metadata`). The api creates, cancels and recovers; the
    worker claims, renews and ends. Kept `TASK_TTL_S`; renewed while the task runs.
    """
    return f"stream:{task_id}:metadata"


def task_input(task_id: str) -> str:
    """String: a task's input, JSON. The api writes it at submit, a claim reads it. Kept as the metadata while the task
    is open; the step that records the end leaves it the lifetime that the metadata say (`input_ttl`).
    """
    return f"stream:{task_id}:input"


def limit(function: str, digest: str) -> str:
    """Sorted set: admitted tickets, waiting tickets, and the latest starts, of a function with limits
    (`plugins.limits`).

    The digest is that of the value by which the limits count. Written by `limits.lua`, by the step that creates
    a task, and by the worker when an attempt starts. Kept `TASK_TTL_S` after the last call; renewed while a task runs.
    """
    return f"{LIMIT_PREFIX}{function}:{digest}"


def parked(function: str) -> str:
    """Sorted set: parked tickets (`plugins.limits`) of a function that is paused, or that the worker which read their
    messages lacks, by the server's time (µs) when the first one parked them. Written by the workers; one that has the
    function unparks them. Kept `TASK_TTL_S` after the last.
    """
    return f"functions:held:{function}"


def parked_by_owner(owner: str, function: str) -> str:
    """Sorted set: tickets of an owner and a function that are parked because a worker which read their messages has run
    the owner's share of tasks, by the server's time (µs) when the first one parked them. Written by the workers; one
    that has the function and room for the owner unparks them. Kept `TASK_TTL_S` after the last.
    """
    return f"{PARKED_BY_OWNER}:{owner}:{function}"


def limited_function(limit_key: str) -> str:
    """Return the function that this key limits: no function's name has a colon."""
    return limit_key.removeprefix(LIMIT_PREFIX).partition(":")[0]


def hub(name: str) -> str:
    """Channel: one api process probes its own subscription by publishing here."""
    return f"tailrace:hub:{name}"


def by_owner(owner: str) -> str:
    """Sorted set: an owner's task ids by creation (ms), for listing. The api adds and trims to `TASK_TTL_S`."""
    return f"tasks:by-owner:{owner}"


def open_by_owner(owner: str) -> str:
    """Sorted set: an owner's open tasks, and some that have ended, by creation (ms). The step that creates a task adds
    it, and removes those that have left `OPEN` when the owner seems to have its quota. Kept `TASK_TTL_S` after the
    last.
    """
    return f"tasks:open-by-owner:{owner}"


def open_checked(owner: str) -> str:
    """String: that set, which is large, was compared with `OPEN` within a second. Written by the same step."""
    return f"tasks:open-checked:{owner}"


def idempotency(owner: str, key: str) -> str:
    """String: `task_id:fingerprint` of the first request with this key that was accepted. Read by the api at submit,
    and written in the step that creates the task.

    The name has a digest: a key may be long, and may say what only its client should know. No key has a NUL, so no two
    pairs of owner and key are the same text.
    """
    digest = hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()
    return f"idempotency:{digest}"


def idempotency_before(owner: str, key: str) -> str:
    """String: the same, as an api of an older release names it. Read by the api at submit: it lasts for a day."""
    return f"idempotency:{owner}:{key}"
