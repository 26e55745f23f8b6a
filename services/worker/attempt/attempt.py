"""One attempt at a claimed task: the function feeds the log, a writer empties it into Redis, an end closes it."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from plugins import Context, append, entries, keys, release
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Access
from services.worker.attempt.ending import close
from services.worker.attempt.lease import Lease
from services.worker.attempt.log_writer import Log, RefusedError
from services.worker.attempt.opening import Opened, open_log
from services.worker.attempt.produce import End, failed, produce
from services.worker.redis_client.retry import retry_transient
from services.worker.registry.registry import Plugin

T = TypeVar("T")

logger = structlog.get_logger()


class Run:
    """A task while it runs here. `stop` may be called at any time, from the same loop."""

    def __init__(self, access: Access, claim: Claim, plugin: Plugin | None, grace_s: float) -> None:
        self.claim: Final = claim
        self._grace_s = grace_s
        self._access = access
        self._plugin = plugin
        self._function: asyncio.Task[End] | None = None
        self._stopped = False
        self._stopping = threading.Event()  # the same, for the function, which may be in a thread
        self._stopped_with: End | None = None
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self, end: End | None) -> None:
        """Cancel the function. `end` is what to write for it; None where the log has its end, or is not ours.

        Only the first call counts: another cancel would break the clean-up off. A function that is done stays so.
        """
        if self._stopped or (self._function is not None and self._function.done()):
            return
        self._stopped, self._stopped_with = True, end
        self._stopping.set()
        asyncio.get_running_loop().call_later(self._grace_s, self.leave)
        if self._function is not None:
            self._function.cancel()

    def leave(self) -> None:
        """Wait for the function no longer: its end is written, whatever it still does."""
        if not self._left.done():
            self._left.set_result(None)

    async def perform(self, lease: Lease) -> None:
        """Run the function and write its end, or hand the task back for another attempt.

        Returns when the log is closed, the task released, or another's.

        Raises:
            redis.exceptions.RedisError: Redis did not answer for as long as the client's retries last. The lease
                runs out, and recovery goes on.
        """
        policy = self._plugin.policy if self._plugin else None
        keeps = policy is not None and policy.resumable
        if not await lease.held():  # its claim's answer was long on its way: another may have the task
            await self._leave_gate()
            return
        try:
            opened = await self._patiently("opening", lambda: open_log(self._access, self.claim, keeps=keeps))
            if opened is None:
                return
            log = Log(self._access.append, lease, policy, opened.length)
            log.chunks, log.size = len(opened.kept), opened.size
            await self._write(log, self._context(opened))
        except RefusedError as refused:
            await self._give_up(refused.refusal)

    def _context(self, opened: Opened) -> Context:
        claim = self.claim
        return Context(
            task_id=claim.task_id,
            attempt=claim.attempt,
            yielded=opened.kept,
            logger=logger.bind(task_id=claim.task_id, function=claim.function, attempt=claim.attempt),
            stopping=self._stopping,
        )

    async def _write(self, log: Log, context: Context) -> None:
        writer = asyncio.create_task(log.flush())
        self._function = asyncio.create_task(produce(self._plugin, context, self.claim, log))
        writer.add_done_callback(self._written)
        if self._stopped:
            self._function.cancel()
        try:
            end = await self._outcome()
            if end is None and not writer.done():
                await self._leave_gate()
                return
            again = end is not None and end.again and self.claim.attempt < self.claim.attempts
            if again:
                log.close()
            elif end is not None:
                log.end(end.event, end.data)
            await writer
            assert end is not None
            if again:
                await self._hand_back(end)
            else:
                await self._close(end)
        finally:
            self._function.cancel()
            writer.cancel()

    def _written(self, writer: asyncio.Task[None]) -> None:
        """A writer that was refused is history: the function stops, even in the middle of a long silence."""
        if not writer.cancelled():
            # Looked at here: a writer that was let go may still be refused, because in Python 3.11 `asyncio.wait_for`,
            # with which redis-py sends, may swallow its cancel. Then nobody waits for it, and asyncio would complain.
            writer.exception()
        self.stop(None)

    async def _hand_back(self, end: End) -> None:
        """Let the task wait for its next attempt. Recovery puts it on the queue when its time has come."""
        code, pause = end.data["code"], 0.0
        if code != "interrupted":
            assert self._plugin is not None
            pause = self._plugin.policy.pause(self.claim.attempt)
        given_back = release.arguments(self.claim.task_id, self.claim.token, pause)
        due = await self._patiently("release", lambda: self._access.release(**given_back))
        await self._leave_gate()
        if due:
            await self._patiently("release", lambda: self._note_release(due, pause))
            logger.warning(
                "attempt failed, task handed back",
                task_id=self.claim.task_id,
                attempt=self.claim.attempt,
                of=self.claim.attempts,
                code=code,
                pause_s=pause,
            )

    async def _note_release(self, due: int, pause: float) -> None:
        task_id = self.claim.task_id
        look = ("ZADD", keys.OPEN, "XX", -(-due // 1000), task_id)
        await self._access.batcher.execute([look, ("EXPIRE", keys.log(task_id), keys.CHUNK_TTL_S + math.ceil(pause))])

    async def _outcome(self) -> End | None:
        """How the function ended; None where nothing is to be written for it."""
        assert self._function is not None
        limit = self._plugin.policy.timeout if self._plugin else 0
        overdue = asyncio.get_running_loop().call_later(limit + self._grace_s, self.leave)
        either: list[asyncio.Future[Any]] = [self._function, self._left]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        overdue.cancel()
        if not self._function.done():
            logger.error("function left behind: it does not stop", task_id=self.claim.task_id)
        if self._stopped:  # whatever it makes of that: a function may swallow the cancel, and seem to be done
            return self._stopped_with
        if not self._function.done():
            return failed("timeout", f"did not stop after {limit:g} s")
        if self._function.cancelled():
            return failed("error", "CancelledError: the function cancelled itself")
        if (error := self._function.exception()) is not None:  # a fault of ours; the task ends all the same
            logger.error("running failed", task_id=self.claim.task_id, exc_info=error)
            return failed("error", type(error).__name__)
        return self._function.result()

    async def _give_up(self, refusal: append.Refusal) -> None:
        logger.warning("log refused", task_id=self.claim.task_id, attempt=self.claim.attempt, why=refusal.name)
        if refusal is not append.Refusal.TRUNCATED:
            await self._leave_gate()
            return
        # What is left of the log, if anything, stays; the end says that it is not all.
        end = failed("log_lost", "Redis lost a part of this log: it expired, was evicted, or a failover lost it")
        if await self._patiently("end", lambda: self._append_end(end)) > 0:
            await self._close(end)
        else:
            await self._leave_gate()

    async def _append_end(self, end: End) -> int:
        # By the same way as the append: after a failover, another connection might still lead to the old server.
        (length,) = await self._access.batcher.execute([("LLEN", keys.log(self.claim.task_id))])
        line = entries.encode(end.event, self.claim.attempt, length, entries.now_ms(), end.data)
        return int(await self._access.append(**append.arguments(self.claim.task_id, length, self.claim.attempt, line)))

    async def _close(self, end: End) -> None:
        await self._patiently("end", lambda: close(self._access, self.claim, end.event, end.data))

    async def _leave_gate(self) -> None:
        """The attempt is over, and its function does nothing more."""
        await self._patiently("leaving the gate", lambda: self._access.limiter.release(self.claim))

    async def _patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        return await retry_transient(what, call, task_id=self.claim.task_id)
