"""A log that a test writes itself, and its task as the API sees it."""

from secrets import token_hex

from redis.asyncio import Redis

from plugins import append, entries, keys, metadata
from services.api.tasks.task import Task


class Writer:
    """Appends to one log, with the write rule, or past it."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.task_id = token_hex(16)
        self.lines: list[bytes] = []
        self._script = redis.register_script(append.SCRIPT)

    async def write(self, count: int = 1, event: str = "chunk") -> None:
        """Append so many entries."""
        start = len(self.lines)
        async with self.redis.pipeline() as pipeline:  # the write rule knows no log without a task
            pipeline.hset(keys.metadata(self.task_id), metadata.STATUS, "running")
            pipeline.expire(keys.metadata(self.task_id), keys.TASK_TTL_S)
            await pipeline.execute()
        new = [entries.encode(event, 1, seq, 0, f"entry {seq}") for seq in range(start, start + count)]
        for at in range(0, count, append.MAX_ENTRIES):
            group = new[at : at + append.MAX_ENTRIES]
            assert await self._script(**append.arguments(self.task_id, start + at, 1, *group)) > 0
        self.lines += new

    async def write_silently(self, event: str = "chunk") -> None:
        """An append whose ring is lost on the way."""
        line = entries.encode(event, 1, len(self.lines), 0, "lost ring")
        await self.redis.rpush(keys.log(self.task_id), line)
        await self.redis.expire(keys.log(self.task_id), keys.CHUNK_TTL_S)
        self.lines.append(line)

    async def ring(self, seq: int) -> None:
        """An entry's ring, once more."""
        await self.redis.publish(keys.channel(self.task_id), self.lines[seq])


def queued(task_id: str) -> Task:
    """A task that has not ended, as far as the api knows."""
    return Task(
        task_id=task_id, owner="", function="f", version="", ran_version=None, limit_key=None,
        recorded_status="running", attempt=1, attempts=1, lease_until=0, non_chunk_entries=0, queued_at=0,
        created_at=0, started_at=0, recorded_end=None, recorded_ended_at=None, length=0, last_attempt=0, last_bytes=0,
    )  # fmt: skip
