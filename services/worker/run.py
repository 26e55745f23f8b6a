"""One attempt at a claimed task: the function feeds the log, a writer empties it into Redis, an end closes it."""

import asyncio
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from plugins import append, entries, keys
from services.worker.claim import Claim
from services.worker.close import close
from services.worker.log import Log, RefusedError
from services.worker.produce import End, failed, produce
from services.worker.registry import Plugin

# Seconds a function has to clean up after it was told to stop, or ran out of time. Then its task ends without it.
GRACE_S: Final = 10

logger = structlog.get_logger()


class Run:
    """A task while it runs here. `stop` may be called at any time, from the same loop."""

    def __init__(self, redis: Redis, script: AsyncScript, claim: Claim) -> None:
        self.claim: Final = claim
        self._redis = redis
        self._script = script
        self._function: asyncio.Task[End] | None = None
        self._stopped = False
        self._stopped_with: End | None = None
        self._left = asyncio.Event()

    def stop(self, end: End | None) -> None:
        """Cancel the function. `end` is what to write for it; None where the log has its end, or is not ours.

        Only the first call counts: another cancel would break the clean-up off.
        """
        if self._stopped:
            return
        self._stopped, self._stopped_with = True, end
        asyncio.get_running_loop().call_later(GRACE_S, self.leave)
        if self._function is not None:
            self._function.cancel()

    def leave(self) -> None:
        """Wait for the function no longer: its end is written, whatever it still does."""
        self._left.set()

    async def perform(self, plugin: Plugin | None) -> None:
        """Run the function and write its end. Returns when the log is closed or belongs to another.

        Raises:
            redis.exceptions.RedisError: Redis did not answer for as long as the client's retries last. The lease
                runs out, and recovery ends the task.
        """
        length = await self._open()
        if length is None:
            return
        log = Log(self._script, self.claim.task_id, self.claim.attempt, length)
        writer = asyncio.create_task(log.flush())
        self._function = asyncio.create_task(produce(plugin, self.claim, log))
        # A writer that was refused is history: the function stops, even in the middle of a long silence.
        writer.add_done_callback(lambda _: self.stop(None))
        if self._stopped:
            self._function.cancel()
        try:
            end = await self._outcome(plugin)
            if end is None and not writer.done():
                return
            if end is not None:
                log.end(*end)
            await writer
            assert end is not None
            await close(self._redis, self.claim.task_id, *end)
        except RefusedError as refused:
            await self._give_up(refused.refusal)
        finally:
            self._function.cancel()
            writer.cancel()

    async def _open(self) -> int | None:
        """The log's length, or None where it has an end: the task was cancelled while the claim was under way."""
        task_id = self.claim.task_id
        async with self._redis.pipeline(transaction=False) as pipeline:
            # From now on recovery looks when the lease is over, no longer when the queue should have been faster.
            pipeline.zadd(keys.OPEN, {task_id: self.claim.lease_until // 1000 + 1}, xx=True)
            pipeline.llen(keys.chunks(task_id))
            pipeline.lindex(keys.chunks(task_id), -1)
            _, length, line = await pipeline.execute()
        last = entries.decode(line) if line else None
        if last is not None and last.ends:
            await close(self._redis, task_id, last.event, last.data)
            return None
        return int(length)

    async def _outcome(self, plugin: Plugin | None) -> End | None:
        """How the function ended; None where nothing is to be written for it."""
        assert self._function is not None
        limit = plugin.policy.timeout if plugin else 0
        overdue = asyncio.get_running_loop().call_later(limit + GRACE_S, self.leave)
        left = asyncio.create_task(self._left.wait())
        await asyncio.wait([self._function, left], return_when=asyncio.FIRST_COMPLETED)
        overdue.cancel()
        left.cancel()
        if not self._function.done():
            logger.error("function left behind: it does not stop", task_id=self.claim.task_id)
            return self._stopped_with if self._stopped else failed("timeout", f"did not stop after {limit:g} s")
        if not self._function.cancelled():
            if (error := self._function.exception()) is not None:  # a fault of ours; the task ends all the same
                logger.error("running failed", task_id=self.claim.task_id, exc_info=error)
                return failed("error", type(error).__name__)
            return self._function.result()
        if self._stopped:
            return self._stopped_with
        return failed("error", "CancelledError: the function cancelled itself")

    async def _give_up(self, refusal: append.Refusal) -> None:
        logger.warning("log refused", task_id=self.claim.task_id, attempt=self.claim.attempt, why=refusal.name)
        if refusal is not append.Refusal.TRUNCATED:
            return
        # What is left of the log, if anything, stays; the end says that it is not all.
        event, data = failed(
            "log_lost", "Redis lost a part of this log: it expired, was evicted, or a failover lost it"
        )
        length = await self._redis.llen(keys.chunks(self.claim.task_id))
        line = entries.encode(event, self.claim.attempt, length, entries.now_ms(), data)
        if await self._script(**append.arguments(self.claim.task_id, length, self.claim.attempt, line)) > 0:
            await close(self._redis, self.claim.task_id, event, data)
