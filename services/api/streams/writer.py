"""Write from a reader to its client: at once while the client keeps up, in a task of its own while it does not.

Nearly all readers of a live stream keep up. They cost no task and no timer: the tail wakes one after another, and each
sends its new frames. A writer whose reader is behind, or whose client does not read, gets a task until it has caught
up, and a timer that aborts the connection if a single send takes too long.
"""

import asyncio
from typing import Final

import structlog
from litestar.types import Send

from services.api.streams.eager import run_until_blocked
from services.api.streams.hub import CLOSING_S, Hub
from services.api.streams.reader import Reader
from services.api.streams.transport import Connection

logger = structlog.get_logger()

# No send is in flight. Later than any time.
NEVER: Final = float("inf")


class Writer:
    """Writes the body of one response, from the first `wake` until its end or `stop`."""

    __slots__ = ("_connection", "_hub", "_loop", "_reader", "_send", "_since", "_stopped", "_task", "_timer")

    def __init__(self, hub: Hub, reader: Reader, send: Send, connection: Connection) -> None:
        self._hub = hub
        self._reader = reader
        self._send = send
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._since = NEVER  # when the send in flight began
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def wake(self, first: bytes = b"") -> None:
        """Write `first`, then the frames that the reader does not have yet. Called by the response, which begins with
        the preamble, and then by the tail.
        """
        rest = run_until_blocked(self._write(first))
        if rest is not None:
            self._task = asyncio.ensure_future(rest)
            self._watch()

    def stop(self) -> None:
        """Stop: the response is complete, or the client has disconnected. Synchronous: no cancel interrupts it."""
        self._stopped = True
        self._reader.tail.waiters.remove(self)
        if self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """End the response before the task's end, and abort the connection of a client that does not take what is left
        of it within `CLOSING_S`.
        """
        if not self._stopped:
            self._reader.cut()
            self._reader.tail.waiters.wake_now(self)
            self._loop.call_later(CLOSING_S, self._abort)

    def _abort(self) -> None:
        if not self._stopped:
            self.stop()
            self._connection.abort()

    def _caught_up(self) -> None:
        """Forget the task: in the same step in which the writer begins to wait, so that no wake comes between."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        """Abort the connection if a send has been in flight for too long; else check again when that may be so."""
        now = self._loop.time()
        if now - self._since >= self._hub.send_timeout_s:
            logger.info("send timed out, connection aborted", task_id=self._reader.tail.task_id)
            self._abort()
        else:
            self._timer = self._loop.call_at(min(self._since, now) + self._hub.send_timeout_s, self._watch)

    async def _write(self, first: bytes) -> None:
        """Write until the reader has nothing new, or has ended. Begins outside a task."""
        reader = self._reader
        try:
            if first:
                await self._put(first)
            # A cancel may have been swallowed: in Python 3.11 `asyncio.wait_for`, with which redis-py reads, may do so.
            while not (reader.ended or self._hub.draining or self._stopped):
                piece = reader.take()
                if piece is None and not reader.behind:
                    reader.tail.waiters.add(self)
                    return
                if piece is None:
                    await asyncio.sleep(0)  # from here on in a task: Redis' client needs one
                    await self._write_page()
                elif piece or not reader.ended:
                    await self._put(piece or reader.tail.format.heartbeat)
            if not self._stopped:
                await self._finish()
        except OSError:
            pass  # the client has disconnected. Other servers than uvicorn raise this here; the request learns it next
        # A fault of this process. The client must not wait for frames that will not be sent.
        except Exception:
            logger.exception("stream failed", task_id=reader.tail.task_id)
            self._connection.abort()
        finally:
            self._caught_up()

    async def _write_page(self) -> None:
        """Write the reader's next page, and hold it no longer than until the kernel has all of it."""
        reader = self._reader
        piece = await reader.page()
        if self._stopped:
            return
        if not piece:
            if not reader.ended:
                await self._put(reader.tail.format.heartbeat)
            return
        await self._put(piece)
        del piece  # the server has a copy
        with self._connection.strict():
            await self._put(b"")
        reader.page_sent()

    async def _finish(self) -> None:
        """End the response. Without the task's end it breaks off: many clients take a complete one for that end."""
        breaks_off = not self._reader.complete
        if breaks_off:
            await self._put(self._reader.tail.format.closing())
        with self._connection.strict():
            await self._put(b"", more=breaks_off and self._connection.reachable)
        if breaks_off:
            self._connection.close()

    async def _put(self, piece: bytes, *, more: bool = True) -> None:
        self._since = self._loop.time()
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        self._since = NEVER
