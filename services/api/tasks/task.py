"""Tasks as Redis has them: metadata and the state of the log, in one round trip; and an owner's tasks, by pages."""

from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from plugins import entries, keys, metadata


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it was read: the fields of its metadata; the length of its log, and the last entry, if any.

    Times are milliseconds since the epoch.
    """

    task_id: str
    owner: str
    function: str
    version: str  # of the function, as it was when the task was submitted
    ran_version: str | None = None  # as the latest attempt's worker has it
    limit_key: str | None = msgspec.field(name=metadata.LIMIT_KEY, default=None)  # if its function had limits
    recorded_status: str = msgspec.field(name=metadata.STATUS)  # an end in the log takes precedence
    attempt: int = 0
    attempts: int = 1  # the maximum
    lease_until: int = 0  # by the server's clock
    # Entries of the log that are no chunks of this attempt's.
    non_chunk_entries: int = msgspec.field(name=metadata.NON_CHUNK_ENTRIES, default=0)
    created_at: int
    queued_at: int
    started_at: int | None = None
    recorded_end: str | None = msgspec.field(name=metadata.END, default=None)  # JSON
    recorded_ended_at: int | None = msgspec.field(name=metadata.ENDED_AT, default=None)
    length: int
    last: entries.Entry | None
    last_line: bytes | None = None  # the same, as its line

    @property
    def end(self) -> entries.Entry | None:
        """The entry that ended it, while the log is kept."""
        return self.last if self.last is not None and self.last.ends else None

    @property
    def end_line(self) -> bytes | None:
        """The same, as its line."""
        return self.last_line if self.end else None

    @property
    def status(self) -> str:
        """`queued`, `running`, `done`, `failed` or `cancelled`."""
        return self.end.event if self.end else self.recorded_status

    @property
    def expired(self) -> bool:
        """Whether it has ended and its log is no longer kept."""
        return self.recorded_status in entries.ENDS and self.length == 0

    @property
    def chunks(self) -> int:
        """How many chunks readers have: the log's entries without its end, marks, and what an attempt did not keep.

        If the log has expired, the number that its end states.
        """
        if self.expired and self.recorded_end is not None:
            return int(msgspec.json.decode(self.recorded_end, type=dict[str, Any]).get("chunks", 0))
        return max(0, self.length - self.non_chunk_entries - (1 if self.end else 0))


# A task as Redis returns it: its metadata, the length of its log, and the last entry.
RawTask = tuple[dict[bytes, bytes], int, bytes | None]


async def read(redis: Redis, task_id: str) -> Task | None:
    """Return the task of this id and any owner, or None.

    Raises:
        ValueError: its fields are not of the form in which this product writes them.
        redis.exceptions.RedisError: Redis does not answer, or one of its keys is of another type.
    """
    (raw,) = await fetch(redis, [task_id])
    return task_of(task_id, raw)


async def fetch(redis: Redis, task_ids: list[str]) -> list[RawTask]:
    """Return the raw tasks of these ids, in one round trip."""
    async with redis.pipeline(transaction=False) as pipeline:
        for task_id in task_ids:
            queue_reads(pipeline, task_id)
        answers = await pipeline.execute()
    return list(zip(answers[::3], answers[1::3], answers[2::3], strict=True))


async def page_of(redis: Redis, owner: str, before: str | None, limit: int) -> tuple[list[Task], str | None]:
    """Return at most `limit` of this owner's tasks, from the newest on or behind `before` (a task's id); and the
    `before` of the next page, None if this one is the last. The page is empty if `before` is not listed any more.
    """
    listed, start = keys.by_owner(owner), 0
    if before:
        # By id and not by time: several tasks may be of one millisecond.
        rank: Any = await redis.zrevrank(listed, before)
        if rank is None:
            return [], None
        start = int(rank) + 1
    members: Any = await redis.zrange(listed, start, start + limit - 1, desc=True)
    ids = [member.decode() for member in members]
    tasks = map(task_of, ids, await fetch(redis, ids))
    return [task for task in tasks if task is not None], ids[-1] if len(ids) == limit else None


def queue_reads(pipeline: Pipeline, task_id: str) -> None:
    """Add the three commands whose answers are the raw task of this id."""
    pipeline.hgetall(keys.metadata(task_id))
    pipeline.llen(keys.log(task_id))
    pipeline.lindex(keys.log(task_id), -1)


def task_of(task_id: str, raw: RawTask) -> Task | None:
    """Decode a raw task. Return None if it does not exist.

    Raises:
        ValueError: its fields are not of the form in which this product writes them.
    """
    hash_fields, length, last = raw
    fields: dict[str, Any] = {name.decode(): value.decode() for name, value in hash_fields.items()}
    if metadata.FUNCTION not in fields:
        return None
    fields.setdefault(metadata.QUEUED_AT, fields.get(metadata.CREATED_AT))
    log = {"length": length, "last": entries.decode(last) if last else None, "last_line": last}
    return msgspec.convert(fields | log | {"task_id": task_id}, Task, strict=False)
