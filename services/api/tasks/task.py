"""A task as Redis has it: its metadata and the state of its log, read in one round trip."""

from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from plugins import entries, keys, metadata


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as Redis tells it. Times are milliseconds since the epoch; `last` is the last entry of the log, if any."""

    task_id: str
    owner: str
    function: str
    version: str  # of the function, as it was when the task was submitted
    ran_version: str | None  # as the latest attempt's worker has it
    limit_key: str | None  # if its function had limits
    noted: str  # the status as the metadata has it; the log's end, if there is one, knows better
    attempt: int
    attempts: int  # how many there may be
    lease_until: int  # by the server's clock
    uncounted: int  # entries of the log that are no chunks of this attempt's
    created_at: int
    queued_at: int
    started_at: int | None
    noted_end: msgspec.Raw | None
    noted_ended_at: int | None
    length: int
    last: entries.Entry | None

    @property
    def end(self) -> entries.Entry | None:
        """The entry that ended it, while the log is kept."""
        return self.last if self.last is not None and self.last.ends else None

    @property
    def status(self) -> str:
        """`queued`, `running`, `done`, `failed` or `cancelled`."""
        return self.end.event if self.end else self.noted

    @property
    def expired(self) -> bool:
        """Whether it has ended and its log is no longer kept."""
        return self.noted in entries.ENDS and self.length == 0

    @property
    def chunks(self) -> int:
        """How many chunks readers have: the log's entries without its end, marks, and what an attempt did not keep.

        Of a log that is not kept any more, as many as its end counted.
        """
        if self.expired and self.noted_end is not None:
            counted = msgspec.json.decode(self.noted_end, type=dict[str, Any]).get("chunks", 0)
            return int(counted)
        return max(0, self.length - self.uncounted - (1 if self.end else 0))


# What Redis says of one: its metadata, the length of its log, and the last entry.
Answers = tuple[dict[bytes, bytes], int, bytes | None]


async def read(redis: Redis, task_id: str) -> Task | None:
    """The task of this id, whoever's it is, or None.

    Raises:
        ValueError: what Redis has is not what we write.
        redis.exceptions.RedisError: Redis does not answer, or has something else at this place.
    """
    (task,) = await read_all(redis, [task_id])
    return task


async def read_all(redis: Redis, task_ids: list[str]) -> list[Task | None]:
    """The tasks of these ids, in one round trip.

    Raises:
        ValueError: what Redis has of one is not what we write.
        redis.exceptions.RedisError: Redis does not answer, or has something else at one's place.
    """
    return [task_of(task_id, answers) for task_id, answers in zip(task_ids, await ask(redis, task_ids), strict=True)]


async def ask(redis: Redis, task_ids: list[str]) -> list[Answers]:
    """What Redis says of the tasks of these ids, in one round trip.

    Raises:
        redis.exceptions.RedisError: it does not answer, or has something else at one's place.
    """
    async with redis.pipeline(transaction=False) as pipeline:
        for task_id in task_ids:
            question(pipeline, task_id)
        answers = await pipeline.execute()
    return list(zip(answers[::3], answers[1::3], answers[2::3], strict=True))


def question(pipeline: Pipeline, task_id: str) -> None:
    """Three commands, whose answers tell of the task of this id."""
    pipeline.hgetall(keys.metadata(task_id))
    pipeline.llen(keys.log(task_id))
    pipeline.lindex(keys.log(task_id), -1)


def task_of(task_id: str, answers: Answers) -> Task | None:
    """The task that these answers are about; None where there is none.

    Raises:
        ValueError: they are not what we write.
    """
    fields, length, last = answers
    has = {name.decode(): value for name, value in fields.items()}
    if metadata.FUNCTION not in has:
        return None
    if missing := {metadata.VERSION, metadata.OWNER, metadata.CREATED_AT, metadata.STATUS} - has.keys():
        raise ValueError(f"its metadata lacks {', '.join(sorted(missing))}")

    def number(field: str) -> int | None:
        return int(has[field]) if field in has else None

    return Task(
        task_id=task_id,
        owner=has[metadata.OWNER].decode(),
        function=has[metadata.FUNCTION].decode(),
        version=has[metadata.VERSION].decode(),
        ran_version=has.get(metadata.RAN_VERSION, b"").decode() or None,
        limit_key=has[metadata.LIMIT_KEY].decode() if metadata.LIMIT_KEY in has else None,
        noted=has[metadata.STATUS].decode(),
        attempt=number(metadata.ATTEMPT) or 0,
        attempts=number(metadata.ATTEMPTS) or 1,
        lease_until=number(metadata.LEASE_UNTIL) or 0,
        uncounted=number(metadata.NON_CHUNK_ENTRIES) or 0,
        created_at=int(has[metadata.CREATED_AT]),
        queued_at=number(metadata.QUEUED_AT) or int(has[metadata.CREATED_AT]),
        started_at=number(metadata.STARTED_AT),
        noted_end=msgspec.Raw(has[metadata.END]) if metadata.END in has else None,
        noted_ended_at=number(metadata.ENDED_AT),
        length=length,
        last=entries.decode(last) if last else None,
    )
