"""From a reader to its client: at once while the client keeps up, in a task of its own while it does not.

Nearly all readers of a live stream keep up. They cost no task and no timer: the tail wakes one after another, and each
sends what is new to it. One that is behind, or whose client takes nothing, gets a task until it has caught up, and a
timer that closes its connection where a single send takes too long.
"""

import asyncio
from typing import Final

import structlog
from litestar.types import Send

from services.api.streams.eager import begin
from services.api.streams.hub import Hub
from services.api.streams.reader import Reader
from services.api.streams.transport import Connection

logger = structlog.get_logger()

# No send is under way. Later than any time.
NEVER: Final = float("inf")


class Writer:
    """Writes the body of one response. `start` begins, `stop` ends it wherever it is."""

    __slots__ = (
        "_connection",
        "_hub",
        "_loop",
        "_reader",
        "_send",
        "_send_timeout_s",
        "_since",
        "_stopped",
        "_task",
        "_timer",
    )

    def __init__(self, hub: Hub, reader: Reader, send: Send, connection: Connection, send_timeout_s: float) -> None:
        self._hub = hub
        self._reader = reader
        self._send = send
        self._connection = connection
        self._send_timeout_s = send_timeout_s
        self._loop = asyncio.get_running_loop()
        self._since = NEVER  # when the send began that is under way
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, hello: bytes) -> None:
        """Write these first bytes, then what the reader has to catch up with, and from then on whatever comes."""
        self._go_on(hello)

    def wake(self) -> None:
        """Write what is new: the tail calls."""
        self._go_on(b"")

    def stop(self) -> None:
        """The client has all, or is gone. Synchronous: no cancel interrupts it."""
        self._stopped = True
        self._reader.tail.leave(self)
        if self._task is not None:
            self._task.cancel()

    def _go_on(self, first: bytes) -> None:
        rest = begin(self._write(first))
        if rest is not None:
            self._task = asyncio.ensure_future(rest)
            self._watch()

    def _caught_up(self) -> None:
        """Nothing is under way: noted in the very step in which it begins to wait, so that no wake comes between."""
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        """Close the connection if a send has been under way for too long; look again when that may be so."""
        now = self._loop.time()
        if now - self._since >= self._send_timeout_s:
            logger.info("reader given up: it takes nothing", task_id=self._reader.tail.task_id)
            self.stop()
            self._connection.abort()
        else:
            self._timer = self._loop.call_at(min(self._since, now) + self._send_timeout_s, self._watch)

    async def _write(self, first: bytes) -> None:
        """Write until there is nothing to write: the reader waits, or it is over. Begins outside a task."""
        reader = self._reader
        try:
            if first:
                await self._put(first)
            # A cancel may have been swallowed: in Python 3.11 `asyncio.wait_for`, with which redis-py reads, may do so.
            while not (reader.ended or self._hub.draining or self._stopped):
                piece = reader.take()
                if piece is None and not reader.behind:
                    reader.tail.wait(self)
                    return
                if piece is None:
                    await asyncio.sleep(0)  # from here on in a task: Redis' client needs one
                    piece = await reader.page()
                if piece or not reader.ended:
                    await self._put(piece or reader.tail.format.heartbeat)
            if not self._stopped:
                await self._finish()
        except OSError:
            pass  # the client is gone, and other servers than uvicorn say so here: the request is about to hear of it
        # A fault of ours. Its client must not wait for what does not come.
        except Exception:
            logger.exception("stream failed", task_id=reader.tail.task_id)
            self._connection.abort()
        finally:
            self._caught_up()

    async def _finish(self) -> None:
        if not self._reader.ended:
            await self._put(self._reader.tail.format.farewell())
        with self._connection.strict():
            await self._put(b"", more=False)

    async def _put(self, piece: bytes, *, more: bool = True) -> None:
        self._since = self._loop.time()
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        self._since = NEVER
