"""Run a function: put its chunks into the log, and return one end, however it stops."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec
import structlog

from plugins import Context, entries
from plugins.forks import end_forks, exit_fork
from services.worker.attempt.claim import Claim
from services.worker.attempt.log_writer import ClosedError, LimitError, Log
from services.worker.registry.invalid import InvalidInputError
from services.worker.registry.reasons import Reasons
from services.worker.registry.registry import Plugin

logger = structlog.get_logger()

# Characters of an end's message, which every reader gets.
MAX_MESSAGE: Final = 2_000


class End(msgspec.Struct, frozen=True):
    """How an attempt ended: an entry's event and data. If it is `retryable`, another attempt may succeed."""

    event: str
    data: dict[str, Any]
    retryable: bool = False


def failed(code: str, message: str, *, retryable: bool = False, **more: str) -> End:
    """Return the end of a task that failed. `code` is one of the few that clients may rely on. `more` is a reference
    to the line of the log that says more.

    The message is cut to `MAX_MESSAGE`, and what JSON cannot represent is replaced.
    """
    printable = message[:MAX_MESSAGE].encode(errors="replace").decode()
    return End("failed", {"code": code, "message": printable, **more}, retryable)


async def produce(plugin: Plugin | None, context: Context, claim: Claim, log: Log, reasons: Reasons) -> End:
    """Run the function, put its chunks into the log, and return how it ended. `reasons` puts exceptions into words.

    Raises:
        asyncio.CancelledError: the attempt was stopped; the function's clean-up has run.
    """
    if plugin is None:
        return failed("not_started", f"this worker has no function named {claim.function!r}")
    if claim.input is None:
        return failed("input_lost", "Redis lost the input of this task: it was evicted, or a failover lost it")
    timeout = plugin.policy.timeout
    deadline = asyncio.timeout(timeout)
    refused: End | None = None
    try:
        with end_forks():
            arguments = plugin.arguments(claim.input, context)
            async with deadline, aclosing(plugin.call(**arguments)) as chunks:
                try:
                    await feed(chunks, log)
                # Whatever the clean-up raises, this is how it ended.
                except ClosedError:
                    refused = failed("error", "it was stopped, and went on")
                except entries.NotJSONError as error:
                    logger.exception("chunk not JSON", **claim.logged)
                    refused = failed("error", f"chunk {log.chunks} is not JSON: {error}")
                except LimitError as error:
                    refused = failed("limit", str(error))
    except InvalidInputError as error:
        return failed("invalid_input", str(error))
    # The function is its author's code: nothing is known of what it may raise, sys.exit() included.
    except BaseException as error:
        # Any other cancel is the function's own: of its tasks, its futures, its pools.
        if isinstance(error, asyncio.CancelledError) and context.stopping.is_set():
            raise
        if refused is None and deadline.expired():
            return failed("timeout", f"stopped after {timeout:g} s, its time-out")
        told = reasons.told(error)
        logger.exception("function failed", **claim.logged, **told.fields)
        return refused or failed("error", told.words, retryable=True, **told.fields)
    return refused or End("done", {"chunks": log.chunks})


async def feed(chunks: AsyncGenerator[Any, None], log: Log) -> None:
    """Put these chunks into the log, one by one.

    A cancel that arrives while the log is full is raised at the function's `yield`. A time-out or a task group around
    the `yield` must see it, as it does if the function itself waits.

    Raises:
        BaseException: whatever the function raises; or what `Log.chunk` raises.
    """
    pid = os.getpid()
    async for chunk in chunks:
        while True:
            if os.getpid() != pid:
                exit_fork()
            try:
                await log.chunk(chunk)
                break
            except asyncio.CancelledError as cancel:
                try:
                    chunk = await chunks.athrow(cancel)  # the one that the function yields instead
                except StopAsyncIteration:
                    return
