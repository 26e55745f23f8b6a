"""Tasks as Redis has them: metadata and the state of the log, in one round trip; and an owner's tasks, by pages."""

from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from plugins import entries, keys, metadata
from services.api import foreign
from services.api.foreign import UnreadableError


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
    reservation: str | None = None  # of its Idempotency-Key: a name in Redis
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
            return msgspec.json.decode(self.recorded_end, type=EndData).chunks
        return max(0, self.length - self.non_chunk_entries - (1 if self.end else 0))


# A task as Redis returns it: its metadata, the length of its log, and the last entry; or errors in their places, if the
# keys are of another type.
RawTask = tuple[Any, Any, Any]


class EndData(msgspec.Struct, frozen=True):
    """What the data of every end are: an object. That of `done` has the number of chunks."""

    chunks: int = 0


async def read(redis: Redis, task_id: str) -> Task | None:
    """Return the task of this id and any owner, or None.

    Raises:
        UnreadableError: it is not of the form in which this product writes it.
        redis.exceptions.RedisError: Redis does not answer.
    """
    (raw,) = await fetch(redis, [task_id])
    return task_of(task_id, raw)


async def fetch(redis: Redis, task_ids: list[str]) -> list[RawTask]:
    """Return the raw tasks of these ids, in one round trip. Errors of a task are among its answers."""
    async with redis.pipeline(transaction=False) as pipeline:
        for task_id in task_ids:
            queue_reads(pipeline, task_id)
        # A key of another type is a fault of its task, and not of those that share the round trip.
        answers = await pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not foreign.is_wrong_type(answer):
            raise answer
    return list(zip(answers[::3], answers[1::3], answers[2::3], strict=True))


async def page_of(redis: Redis, owner: str, before: str | None, limit: int) -> tuple[list[Task], str | None]:
    """Return at most `limit` of this owner's tasks, from the newest on or behind `before` (a task's id); and the
    `before` of the next page, None if this one is the last. The page is empty if `before` is not listed any more. Tasks
    that cannot be read are skipped.
    """
    listed, start = keys.by_owner(owner), 0
    if before:
        # By id and not by time: several tasks may be of one millisecond.
        rank: Any = await redis.zrevrank(listed, before)
        if rank is None:
            return [], None
        start = int(rank) + 1
    members: Any = await redis.zrange(listed, start, start + limit - 1, desc=True)
    ids = [task_id for member in members if keys.TASK_ID.fullmatch(task_id := member.decode(errors="replace"))]
    tasks = map(_readable, ids, await fetch(redis, ids))
    return [task for task in tasks if task is not None and task.owner == owner], ids[-1] if ids and len(
        members
    ) == limit else None


def _readable(task_id: str, raw: RawTask) -> Task | None:
    try:
        return task_of(task_id, raw)
    except UnreadableError as error:
        foreign.log_once("task not readable", task_id, error)
        return None


def queue_reads(pipeline: Pipeline, task_id: str) -> None:
    """Add the three commands whose answers are the raw task of this id."""
    pipeline.hgetall(keys.metadata(task_id))
    pipeline.llen(keys.log(task_id))
    pipeline.lindex(keys.log(task_id), -1)


def owner_of(raw: RawTask) -> str | None:
    """Return the owner of a raw task, None if it has none that can be read."""
    fields = raw[0]
    owner = fields.get(metadata.OWNER.encode()) if isinstance(fields, dict) else None
    return owner.decode(errors="replace") if owner is not None else None


def task_of(task_id: str, raw: RawTask) -> Task | None:
    """Decode a raw task. Return None if it does not exist.

    Raises:
        UnreadableError: it is not of the form in which this product writes it.
    """
    try:
        return _decoded(task_id, raw)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(task_id, error) from error


def _decoded(task_id: str, raw: RawTask) -> Task | None:
    for answer in raw:
        if isinstance(answer, ResponseError):
            raise ValueError(str(answer))
    hash_fields, length, line = raw
    fields: dict[str, Any] = {name.decode(): value.decode() for name, value in hash_fields.items()}
    if metadata.FUNCTION not in fields:
        return None
    fields.setdefault(metadata.QUEUED_AT, fields.get(metadata.CREATED_AT))
    last = foreign.entry_of(task_id, line) if line is not None else None
    if line is not None and last is None:
        raise ValueError("the last entry of its log cannot be read")
    if last is not None and last.seq < length - 1:  # the log may have grown since its length was read
        raise ValueError(f"the last of {length} entries of its log says that it is number {last.seq}")
    for end in (last.data if last is not None and last.ends else None, fields.get(metadata.END)):
        if end is not None:
            msgspec.json.decode(end, type=EndData)
    log = {"length": length, "last": last, "last_line": line}
    return msgspec.convert(fields | log | {"task_id": task_id}, Task, strict=False)
