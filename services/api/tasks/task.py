"""Tasks as Redis has them: metadata and the state of the log, in one round trip; and an owner's tasks, by pages.

Neither a task's input nor a chunk is read: both may be large, and no answer has them.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis

from plugins import entries, keys, metadata, scripts
from services.api import foreign
from services.api.foreign import UnreadableError
from services.api.redis_client import Call, pipelined, script_call

READ: Final = scripts.read("read.lua", __file__)

# Tasks per call of the script. Redis serves nothing else meanwhile, and a last entry has 256 KiB at most.
MAX_READ: Final = 50

# Bytes of a last entry that are read. A longer one is judged by its beginning.
MAX_LINE: Final = 512

# Bytes of an end that are read. None that this product writes is longer.
MAX_END: Final = 65_536

# How a line begins.
HEAD: Final = re.compile(rb'\{"event":"([A-Za-z0-9_.-]+)","attempt":(\d{1,18}),"seq":(\d{1,18}),')


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it was read: the fields of its metadata; the length of its log, the attempt of its last entry, and its
    end, if any.

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
    last_attempt: int  # of the last entry; 0 if the log is empty
    last_bytes: int  # of the same
    end_line: bytes | None = None
    # The entry that ended it, while the log is kept. (`end` is what the metadata has.)
    end: entries.Entry | None = msgspec.field(name="log_end", default=None)

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


# The fields that are read. The input, and what belongs to a worker or to the queue, are not.
FIELDS: Final = (
    metadata.FUNCTION,
    metadata.VERSION,
    metadata.RAN_VERSION,
    metadata.OWNER,
    metadata.LIMIT_KEY,
    metadata.RESERVATION,
    metadata.STATUS,
    metadata.ATTEMPT,
    metadata.ATTEMPTS,
    metadata.LEASE_UNTIL,
    metadata.NON_CHUNK_ENTRIES,
    metadata.CREATED_AT,
    metadata.QUEUED_AT,
    metadata.STARTED_AT,
    metadata.END,
    metadata.ENDED_AT,
)

# In the place of an owner, for the script: any will do.
ANY_OWNER: Final = "*"

# A task as the script answers it, or the error with which Redis refuses to read it; None if it is not of the owner that
# it must be.
RawTask = list[Any] | Exception | None


class Wanted(NamedTuple):
    """A task to be read. It must be of this owner, or nothing of it is read; None, it may be of any."""

    task_id: str
    owner: str | None = None


class EndData(msgspec.Struct, frozen=True):
    """What the data of every end are: an object. That of `done` has the number of chunks."""

    chunks: int = 0


async def read(redis: Redis, task_id: str, owner: str | None = None) -> Task | None:
    """Return the task of this id and this owner, None if there is none. Without an owner it may be any's.

    Raises:
        UnreadableError: it is not of the form in which this product writes it.
        redis.exceptions.RedisError: Redis does not answer.
    """
    (raw,) = await fetch_wanted(redis, [Wanted(task_id, owner)])
    return task_of(task_id, raw)


async def fetch(redis: Redis, task_ids: Sequence[str]) -> list[RawTask]:
    """Return the raw tasks of these ids and any owners: no caller must get them. Otherwise as `fetch_wanted`."""
    return await fetch_wanted(redis, [Wanted(task_id) for task_id in task_ids])


async def fetch_wanted(redis: Redis, wanted: Sequence[Wanted]) -> list[RawTask]:
    """Return these raw tasks, in one round trip. Errors of a task are in its place.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses to read any.
    """
    batches = [wanted[start : start + MAX_READ] for start in range(0, len(wanted), MAX_READ)]
    raw_tasks: list[RawTask] = []
    for answer in await pipelined(redis, map(read_call, batches)):
        if isinstance(answer, Exception):
            raise answer
        raw_tasks += answer
    return raw_tasks


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
    raw_tasks = await fetch_wanted(redis, [Wanted(task_id, owner) for task_id in ids])
    tasks = [task for task in map(_readable, ids, raw_tasks) if task is not None]
    return tasks, ids[-1] if ids and len(members) == limit else None


def _readable(task_id: str, raw: RawTask) -> Task | None:
    try:
        return task_of(task_id, raw)
    except UnreadableError as error:
        foreign.log_once("task not readable", task_id, error)
        return None


def read_call(wanted: Sequence[Wanted]) -> Call:
    """Return the command whose answer is these raw tasks: `MAX_READ` at most."""
    names = [name for task_id, _ in wanted for name in (keys.metadata(task_id), keys.log(task_id))]
    owners = [ANY_OWNER if owner is None else owner for _, owner in wanted]
    return script_call(READ, names, (MAX_LINE, MAX_END, *owners, *FIELDS))


def task_of(task_id: str, raw: RawTask) -> Task | None:
    """Decode a raw task. Return None if it does not exist, or is not of the owner that it must be.

    Raises:
        UnreadableError: it is not of the form in which this product writes it.
        redis.exceptions.RedisError: Redis has refused to read it for another reason.
    """
    try:
        return _decoded(task_id, raw)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(task_id, error) from error


def _decoded(task_id: str, raw: RawTask) -> Task | None:
    if raw is None:
        return None
    for answer in [raw] if isinstance(raw, Exception) else raw:
        if isinstance(answer, Exception):
            raise ValueError(str(answer)) if foreign.is_wrong_type(answer) else answer
    assert not isinstance(raw, Exception)
    values, length, last_bytes, line = raw
    fields: dict[str, Any] = {
        name: value.decode() for name, value in zip(FIELDS, values, strict=True) if value is not None
    }
    if metadata.FUNCTION not in fields:
        return None
    fields.setdefault(metadata.QUEUED_AT, fields.get(metadata.CREATED_AT))
    last_attempt, end = _last_of(task_id, length, last_bytes, line) if length else (0, None)
    for data in (end.data if end else None, fields.get(metadata.END)):
        if data is not None:
            msgspec.json.decode(data, type=EndData)
    log = {"length": length, "last_attempt": last_attempt, "last_bytes": last_bytes}
    log |= {"log_end": end, "end_line": line if end else None}
    return msgspec.convert(fields | log | {"task_id": task_id}, Task, strict=False)


def _last_of(task_id: str, length: int, last_bytes: int, line: bytes) -> tuple[int, entries.Entry | None]:
    """Return the attempt of the last entry of a log of this length, and the entry if it is an end.

    Raises:
        ValueError: it is none of this product's, or of another place.
    """
    entry = foreign.entry_of(task_id, line) if len(line) == last_bytes else None
    head = HEAD.match(line) if len(line) < last_bytes else None
    if entry is not None:
        attempt, seq = entry.attempt, entry.seq
    elif head is not None and head[1].decode() not in entries.ENDS:
        attempt, seq = int(head[2]), int(head[3])
    else:
        raise ValueError("the last entry of its log cannot be read")
    if seq != length - 1:
        raise ValueError(f"the last of {length} entries of its log says that it is number {seq}")
    return attempt, entry if entry is not None and entry.ends else None
