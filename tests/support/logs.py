"""Logs of tasks, read from Redis past the API."""

from typing import Any

import msgspec
from redis.asyncio import Redis

from plugins import entries, keys
from tests.support.waiting import until

# An entry without its time and place.
Said = tuple[str, int, Any]


async def lines_of(redis: Redis, task_id: str) -> list[bytes]:
    """A log, byte for byte."""
    lines: Any = await redis.lrange(keys.log(task_id), 0, -1)
    return list(lines)


async def log_of(redis: Redis, task_id: str) -> list[Said]:
    """A log: events, attempts and data; whose places are what they say."""
    log = [entries.decode(line) for line in await lines_of(redis, task_id)]
    assert [entry.seq for entry in log] == list(range(len(log)))
    return [(entry.event, entry.attempt, msgspec.json.decode(entry.data)) for entry in log]


def chunks(log: list[Said], attempt: int) -> list[Any]:
    """The chunks of one attempt."""
    return [value for event, of, value in log if event == "chunk" and of == attempt]


def ends(log: list[Said]) -> list[str]:
    """The events that end a task."""
    return [event for event, _, _ in log if event in entries.ENDS]


async def written(redis: Redis, task_id: str, least: int) -> None:
    """Wait until a log has so many entries."""

    async def long_enough() -> bool:
        return await redis.llen(keys.log(task_id)) >= least

    await until(long_enough, f"{least} entries in the log of {task_id}", details=lambda: log_of(redis, task_id))
