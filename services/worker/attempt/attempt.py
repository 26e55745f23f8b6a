"""One attempt at a claimed task: the function feeds the log, a writer flushes it to Redis, an end closes it.

An attempt that fails while another is left releases the task. The API queues it again when its back-off is over
(services/api/tasks/recovery.py): no author's code can block the API.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from plugins import Context, append, entries, keys, release
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Commands
from services.worker.attempt.exits import on_exit
from services.worker.attempt.lease import Lease
from services.worker.attempt.log_writer import Log, RefusedError
from services.worker.attempt.opening import Opened, open_log
from services.worker.attempt.produce import End, failed, produce
from services.worker.redis_client.retry import retry_transient
from services.worker.registry.reasons import DECLARED, Reasons
from services.worker.registry.registry import Plugin

T = TypeVar("T")

logger = structlog.get_logger()


class Attempt:
    """A task while it runs here. `stop` may be called at any time, from the same loop."""

    def __init__(
        self, commands: Commands, claim: Claim, plugin: Plugin | None, grace_s: float, reasons: Reasons = DECLARED
    ) -> None:
        self.claim: Final = claim
        self._grace_s = grace_s
        self._reasons = reasons
        self._commands = commands
        self._plugin = plugin
        self._function: asyncio.Task[End] | None = None
        self._stopping = threading.Event()  # a function may wait for it in a thread
        self._stopped_with: End | None = None
        self._abandoned: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self, end: End | None) -> None:
        """Cancel the function. `end` is written for it; None if the log has its end, or is another worker's.

        Only the first call counts: another cancel would interrupt the clean-up. A function that has finished stays so.
        """
        if self._stopping.is_set() or (self._function is not None and self._function.done()):
            return
        self._stopped_with = end
        self._stopping.set()
        asyncio.get_running_loop().call_later(self._grace_s, self.abandon)
        if self._function is not None:
            self._function.cancel()

    def abandon(self) -> None:
        """Stop waiting for the function: its end is written, whether it has stopped or not."""
        if not self._abandoned.done():
            self._abandoned.set_result(None)

    async def perform(self, lease: Lease) -> None:
        """Run the function and write its end, or release the task for another attempt.

        Return when the log is closed, the task is released, or another worker has it.

        Raises:
            redis.exceptions.RedisError: Redis did not answer for as long as the client's retries last. The lease
                expires, and recovery takes over.
        """
        policy = self._plugin.policy if self._plugin else None
        keeps = policy is not None and policy.resumable
        if not await lease.confirm():  # the reply to the claim was slow: another worker may have the task
            await self._release_place()
            return
        try:
            opened = await self._retry("open", lambda: open_log(self._commands, self.claim, keeps=keeps))
            if opened is None:
                await self._release_place()
                return
            log = Log(self._commands, lease, policy, opened.length)
            log.chunks, log.size = len(opened.kept), opened.size
            await self._write(log, self._context(opened))
        except RefusedError as refused:
            await self._on_refusal(refused.refusal)

    def _context(self, opened: Opened) -> Context:
        claim = self.claim
        return Context(
            task_id=claim.task_id,
            attempt=claim.attempt,
            owner=claim.owner,
            yielded=opened.kept,
            logger=logger.bind(**claim.logged),
            stopping=self._stopping,
        )

    def _fail(self, error: SystemExit) -> None:
        """Stop the function: a task or a callback of its own has raised this."""
        told = self._reasons.told(error)
        logger.error("function failed", exc_info=error, **self.claim.logged, **told.fields)
        self.stop(failed("error", told.words, retryable=True, **told.fields))

    async def _write(self, log: Log, context: Context) -> None:
        on_exit.set(self._fail)
        writer = asyncio.create_task(log.flush())
        self._function = asyncio.create_task(produce(self._plugin, context, self.claim, log, self._reasons))
        writer.add_done_callback(self._on_writer_done)
        if self._stopping.is_set():
            self._function.cancel()
        try:
            end = await self._outcome()
            if end is None and not writer.done():
                await self._release_place()
                return
            retry = end is not None and end.retryable and self.claim.attempt < self.claim.attempts
            if retry:
                log.close()
            elif end is not None:
                log.end(end.event, end.data)
            await writer
            assert end is not None
            if retry:
                await self._release_task(end)
            else:
                await self._release_place()
        finally:
            self._function.cancel()
            writer.cancel()

    def _on_writer_done(self, writer: asyncio.Task[None]) -> None:
        """Stop the function, even in the middle of a long silence: nothing that it yields can be written any more."""
        if not writer.cancelled():
            # The error is retrieved here: an abandoned writer may still be refused, because in Python 3.11
            # `asyncio.wait_for`, with which redis-py sends, may swallow its cancel. Then no caller awaits it, and
            # asyncio would log an error that was never retrieved.
            writer.exception()
        self.stop(None)

    async def _release_task(self, end: End) -> None:
        """Release the task for its next attempt. Recovery queues it when its back-off is over."""
        code, pause = end.data["code"], 0.0
        if code != "interrupted":
            assert self._plugin is not None
            pause = self._plugin.policy.pause(self.claim.attempt)
        arguments = release.arguments(self.claim.task_id, self.claim.token, pause)
        due = await self._retry("release", lambda: self._commands.batcher.run_script(release.SCRIPT, **arguments))
        await self._release_place()
        if due:
            logger.warning(
                "attempt failed, task released",
                task_id=self.claim.task_id,
                attempt=self.claim.attempt,
                attempts=self.claim.attempts,
                code=code,
                pause_s=pause,
            )

    async def _outcome(self) -> End | None:
        """Wait for the function, and return how it ended; None if no end is to be written for it."""
        assert self._function is not None
        timeout = self._plugin.policy.timeout if self._plugin else 0
        overdue = asyncio.get_running_loop().call_later(timeout + self._grace_s, self.abandon)
        either: list[asyncio.Future[Any]] = [self._function, self._abandoned]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        overdue.cancel()
        if not self._function.done():
            logger.error("function did not stop, abandoned", task_id=self.claim.task_id)
        if self._stopping.is_set():  # however it ends: a function may swallow the cancel, and seem to be done
            return self._stopped_with
        if not self._function.done():
            return failed("timeout", f"did not stop after {timeout:g} s")
        if (error := self._function.exception()) is not None:  # a fault of this worker; the task ends nevertheless
            told = DECLARED.told(error)
            logger.error("attempt crashed", exc_info=error, **self.claim.logged, **told.fields)
            return failed("error", told.words, retryable=False, **told.fields)
        return self._function.result()

    async def _on_refusal(self, refusal: append.Refusal) -> None:
        logger.warning("append refused", task_id=self.claim.task_id, attempt=self.claim.attempt, refusal=refusal.name)
        if refusal is append.Refusal.TRUNCATED:
            # The rest of the log, if there is any, stays; the end says that a part is missing.
            end = failed("log_lost", "Redis lost a part of this log: it expired, was evicted, or a failover lost it")
            await self._retry("end", lambda: self._append_end(end))
        await self._release_place()

    async def _append_end(self, end: End) -> None:
        # On the connection of the append: after a failover, another one might still lead to the old server.
        (length,) = await self._commands.batcher.execute([("LLEN", keys.log(self.claim.task_id))])
        line = entries.encode(end.event, self.claim.attempt, length, entries.now_ms(), end.data)
        await self._commands.append_end(self.claim, length, line)

    async def _release_place(self) -> None:
        """Release the place at the limit: the attempt is over, and its function does nothing more."""
        await self._retry("release place", lambda: self._commands.release_place(self.claim))

    async def _retry(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        return await retry_transient(operation, call, task_id=self.claim.task_id)
