"""The scripts and commands that an attempt needs."""

from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis

from plugins import keys, scripts
from plugins.limits import Limits
from plugins.metadata import Fields
from services.worker.attempt.claim import Claims
from services.worker.attempt.limits import Limiter
from services.worker.redis_client.batcher import Batcher, Command, script_call

SET_METADATA: Final = scripts.read("set_metadata.lua", __file__)


class Commands:
    """The scripts of a task's life, all through one batcher; and the client itself, for large reads."""

    def __init__(self, redis: Redis, limits: Mapping[str, Limits]) -> None:
        self.redis: Final = redis
        self.batcher: Final = Batcher(redis)
        self.claims: Final = Claims(self.batcher)
        self.limiter: Final = Limiter(self.batcher, limits)

    def set_metadata(self, task_id: str, fields: Fields) -> Command:
        """Return the command that writes these fields of a task's metadata."""
        args = [part for field in fields.items() for part in field]
        return script_call(SET_METADATA, [keys.metadata(task_id)], [keys.TASK_TTL_S, *args])
