"""Open streams and long-polls end when the right of their caller does: it is over, revoked, or another.

One loop looks at every heartbeat, at each caller once. So a reader has no timer, and entries cost no look.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import structlog
from litestar import Request

from services.api.identity.authentication import Authentication
from services.api.identity.caller import Caller
from services.api.identity.credentials import credential_of

# Callers, or readers, between which everything else in the process gets its turn.
MAX_AT_ONCE: Final = 128

logger = structlog.get_logger()


class Right:
    """The right of one request: its caller, and the credential by which it is that; None for a ticket."""

    __slots__ = ("_credential", "_rights", "caller")

    def __init__(self, rights: "Rights", caller: Caller, credential: str | None) -> None:
        self._rights = rights
        self._credential = credential
        self.caller: Final = caller

    @property
    def holds(self) -> bool:
        """Whether the caller has it still."""
        return self._rights.authentication.holds(self.caller, self._credential)

    @contextmanager
    def watched(self, end: Callable[[], object]) -> Iterator[None]:
        """Within this context, call `end` soon after the right has ended. It is called once."""
        self._rights.watch(self, end)
        try:
            yield
        finally:
            self._rights.forget(self)


class Rights:
    """The rights that are watched, by caller: those of one caller end together."""

    def __init__(self, authentication: Authentication, heartbeat_s: float) -> None:
        self.authentication: Final = authentication
        self._heartbeat_s = heartbeat_s
        self._watched: dict[Caller, dict[Right, Callable[[], object]]] = {}

    def of(self, request: Request[Any, Any, Any]) -> Right:
        """Return the right of a request whose caller is known."""
        caller: Caller = request.user
        return Right(self, caller, credential_of(request) if caller.by else None)

    def watch(self, right: Right, end: Callable[[], object]) -> None:
        """Call `end` when this right has ended."""
        self._watched.setdefault(right.caller, {})[right] = end

    def forget(self, right: Right) -> None:
        """Watch this right no more. Synchronous: no cancel interrupts it."""
        rights = self._watched.get(right.caller, {})
        rights.pop(right, None)
        if not rights:
            self._watched.pop(right.caller, None)

    async def run(self) -> NoReturn:
        """Look at every heartbeat, for ever."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            ended = 0
            for number, caller in enumerate(list(self._watched), 1):
                if number % MAX_AT_ONCE == 0:
                    await asyncio.sleep(0)
                right = next(iter(self._watched.get(caller, {})), None)
                if right is not None and not right.holds:
                    ended += await self._end(caller)
            if ended:
                logger.info("streams ended, their callers' rights are over", streams=ended)

    async def _end(self, caller: Caller) -> int:
        """End the streams and long-polls of this caller. Return how many there were."""
        rights = self._watched.get(caller, {})
        number = 0
        for number, right in enumerate(list(rights), 1):
            if number % MAX_AT_ONCE == 0:
                await asyncio.sleep(0)
            end = rights.get(right)
            self.forget(right)
            if end is not None:  # it has not ended meanwhile
                end()
        return number


def right_of(request: Request[Any, Any, Any]) -> Right:
    """Return the right of a request whose caller is known."""
    rights: Rights = request.app.state.rights
    return rights.of(request)
