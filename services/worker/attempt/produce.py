"""From a function to an end: what it yields goes into the log, and however it stops, one end comes out."""

import asyncio
from contextlib import aclosing
from typing import Any, Final

import msgspec
import structlog

from plugins import Context, entries
from services.worker.attempt.claim import Claim
from services.worker.attempt.log_writer import ClosedError, LimitError, Log
from services.worker.registry.invalid import InvalidInputError
from services.worker.registry.registry import Plugin

logger = structlog.get_logger()

# Characters of a message. More is no message, and every reader gets it.
MAX_MESSAGE: Final = 2_000


class End(msgspec.Struct, frozen=True):
    """How an attempt ended: an entry's event and data. With `again`, another attempt may fare better."""

    event: str
    data: dict[str, Any]
    again: bool = False


def failed(code: str, message: str, *, again: bool = False) -> End:
    """The end of a task that did not work out. `code` is one of the few that clients may rely on.

    The message is cut to `MAX_MESSAGE`, and holds nothing that JSON cannot say.
    """
    sayable = message[:MAX_MESSAGE].encode(errors="replace").decode()
    return End("failed", {"code": code, "message": sayable}, again)


def said(error: BaseException) -> str:
    """An exception in words, whatever its own idea of them."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  # its __str__ is its author's code
        return type(error).__name__


async def produce(plugin: Plugin | None, context: Context, claim: Claim, log: Log) -> End:
    """Run the function, put its chunks into the log, and say how it ended.

    Raises:
        asyncio.CancelledError: it was stopped from outside; the function's clean-up has run.
    """
    if plugin is None:
        return failed("not_started", f"this worker has no function named {claim.function!r}")
    limit = plugin.policy.timeout
    deadline = asyncio.timeout(limit)
    try:
        try:
            arguments = plugin.arguments(claim.input, context)
        except InvalidInputError as error:
            return failed("invalid_input", str(error))
        async with deadline, aclosing(plugin.call(**arguments)) as chunks:  # type: ignore[type-var]  # an async generator
            async for chunk in chunks:
                await log.chunk(chunk)
    except asyncio.CancelledError:
        raise
    except ClosedError:
        return failed("error", "it was stopped, and went on")
    except entries.NotJSONError as error:
        return failed("error", f"chunk {log.chunks} is not JSON: {error}")
    except LimitError as error:
        return failed("limit", str(error))
    # The function is its author's code: nothing is known of what it may raise, sys.exit() included.
    except BaseException as error:
        if deadline.expired():
            return failed("timeout", f"stopped after {limit:g} s, its time-out")
        logger.exception("function failed", task_id=claim.task_id, function=claim.function, attempt=claim.attempt)
        return failed("error", said(error), again=True)
    return End("done", {"chunks": log.chunks})
