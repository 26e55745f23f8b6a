"""What the tests of workers look at: logs, notes of functions, the queue, and which worker has a task."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT
from taskiq import TaskiqMessage
from taskiq_redis import RedisStreamBroker

from plugins import entries, keys
from tests.processes import DEADLINE_S, Process

# What is over soon in a test, and long enough for a busy machine to renew in.
QUICK: Final = {
    "TAILRACE_LEASE_S": "2",
    "TAILRACE_RENEW_S": "0.4",
    "TAILRACE_SCAN_S": "0.2",
    "TAILRACE_HEARTBEAT_S": "0.5",
}

# An entry without its time and place.
Said = tuple[str, int, Any]


async def until(holds: Callable[[], Awaitable[bool]], deadline_s: float = DEADLINE_S) -> None:
    """Look again and again until it is so."""
    # By the clock: in Python 3.11 `asyncio.wait_for`, with which redis-py sends, may swallow a time-out's cancel.
    over = time.monotonic() + deadline_s
    while not await holds():
        assert time.monotonic() < over, f"not so within {deadline_s:g} s"
        await asyncio.sleep(0.01)


class Full:
    """Fills the Redis, and makes room again."""

    def __init__(self, own: Redis) -> None:
        self._own = own

    async def on(self) -> None:
        """From now on everything that needs room is refused."""
        await self._own.config_set("maxmemory", 1)

    async def off(self) -> None:
        """There is room."""
        await self._own.config_set("maxmemory", 0)


async def lines_of(redis: Redis, task_id: str) -> list[bytes]:
    """A log, byte for byte."""
    lines: Any = await redis.lrange(keys.chunks(task_id), 0, -1)
    return list(lines)


async def log_of(redis: Redis, task_id: str) -> list[Said]:
    """A log: events, attempts and data; whose places are what they say."""
    log = [entries.decode(line) for line in await lines_of(redis, task_id)]
    assert [entry.seq for entry in log] == list(range(len(log)))
    return [(entry.event, entry.attempt, msgspec.json.decode(entry.data)) for entry in log]


def chunks(log: list[Said], attempt: int) -> list[Any]:
    """What one attempt has yielded."""
    return [value for event, of, value in log if event == "chunk" and of == attempt]


def ends(log: list[Said]) -> list[str]:
    """The events that end a task."""
    return [event for event, _, _ in log if event in entries.ENDS]


async def written(redis: Redis, task_id: str, least: int) -> None:
    """Wait until a log has so many entries."""

    async def long_enough() -> bool:
        return await redis.llen(keys.chunks(task_id)) >= least

    await until(long_enough)


async def ended(redis: Redis, task_id: str) -> list[Said]:
    """Wait until a task has ended and nobody has to look at it any more; its log."""

    async def closed() -> bool:
        return await redis.zscore(keys.OPEN, task_id) is None

    try:
        await until(closed)
    except TimeoutError:
        raise AssertionError(f"{task_id} goes on: {await state(redis, task_id)}") from None
    log = await log_of(redis, task_id)
    assert ends(log) == [log[-1][0]]
    return log


async def state(redis: Redis, task_id: str) -> dict[str, Any]:
    """All there is to know of a task that does not end."""
    return {
        "now": await redis.time(),
        "due": await redis.zscore(keys.OPEN, task_id),
        "metadata": await redis.hgetall(keys.metadata(task_id)),
        "entries": (await lines_of(redis, task_id))[-3:],
        "pending": await redis.xpending_range(keys.QUEUE, keys.QUEUE_GROUP, "-", "+", 10),
        "clients": [(each["name"], each["cmd"], each["idle"]) for each in await redis.client_list()],
    }


async def drained(redis: Redis) -> None:
    """Wait until the queue is empty, and nobody holds a message."""

    async def empty() -> bool:
        return await redis.xlen(keys.QUEUE) == 0

    await until(empty)
    assert (await redis.xpending(keys.QUEUE, keys.QUEUE_GROUP))["pending"] == 0


async def left(folder: Path, pattern: str, many: int = 1) -> None:
    """Wait until functions have left so many notes."""

    async def there() -> bool:
        return len(notes(folder, pattern)) >= many

    await until(there)


def notes(folder: Path, pattern: str) -> list[str]:
    """The notes that functions have left."""
    return sorted(path.name for path in folder.glob(pattern))


async def renewed(redis: Redis, task_id: str) -> None:
    """Wait for the next renewal of a task's lease."""
    lease = await redis.hget(keys.metadata(task_id), "lease_until")

    async def later() -> bool:
        return await redis.hget(keys.metadata(task_id), "lease_until") != lease

    await until(later)


async def holder(redis: Redis, task_id: str, workers: list[Process]) -> Process:
    """The worker that runs a task."""
    name = await redis.hget(keys.metadata(task_id), "worker")
    assert isinstance(name, bytes)
    group = os.getpgid(int(name.decode().rpartition(":")[2]))
    return next(worker for worker in workers if worker.pid == group)


def open_gate(gate: Path) -> None:
    """Let the function go on that waits for this file."""
    gate.touch()


async def heard(redis: Redis, task_id: str) -> bool:
    """Whether somebody follows a stream."""
    return bool((await redis.pubsub_numsub(keys.channel(task_id)))[0][1])


def freeze(worker: Process) -> None:
    """Stop all its processes where they stand, as a laptop does that is closed."""
    os.killpg(worker.pid, signal.SIGSTOP)


def thaw(worker: Process) -> None:
    """Let them go on as if nothing had been."""
    os.killpg(worker.pid, signal.SIGCONT)


def message(task_id: str, **labels: Any) -> dict[FieldT, EncodableT]:
    """The message that the api puts on the queue for a task, with these labels."""
    return raw(TaskiqMessage(task_id="again", task_name=keys.RUN, labels=labels, args=[task_id], kwargs={}))


def raw(said: TaskiqMessage) -> dict[FieldT, EncodableT]:
    """A message as it stands on the queue."""
    return {"data": RedisStreamBroker("redis://unused").formatter.dumps(said).message}


async def note(redis: Redis, function: str, **given: Any) -> str:
    """Note a task as the api does, and do not queue it; its id."""
    task_id = uuid4().hex
    now = entries.now_ms()
    fields: dict[FieldT, EncodableT] = {
        "status": "queued",
        "function": function,
        "version": "0",
        "input": msgspec.json.encode(given),
        "owner": "anonymous",
        "created_at": now,
        "queued_at": now,
        "attempts": 2,
    }
    await redis.hset(keys.metadata(task_id), mapping=fields)
    await redis.expire(keys.metadata(task_id), keys.TASK_TTL_S)
    return task_id
