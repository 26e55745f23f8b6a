"""The one pub/sub connection of this process, and the tails that live on it.

One task owns the connection: redis-py's connections are not safe to share. It never waits for a reader. What it should
be subscribed to is state (`_tails`); whoever changes it leaves a note and goes on, so opening a stream never waits for
Redis, and a reconnect subscribes to everything anew. A connection of ours rather than redis-py's `PubSub`, because that
one reconnects from within a read, where a concurrent subscribe may meet it half-way (redis-py 8.1).

A connection that raises nothing need not hear anything: its other end may be gone without a word, or be a server that
lost its place to another. So the hub calls itself, through the connections that commands use, and rebuilds when it does
not hear that.
"""

import asyncio
import math
import os
from collections.abc import Callable
from itertools import islice
from secrets import token_hex
from typing import Final

import structlog
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import RedisError

from plugins import keys
from services.api.streams.formats import Format
from services.api.streams.pages import Pages, Turns
from services.api.streams.reader import Reader
from services.api.streams.tail import Tail
from services.api.tasks.task import Task

# Seconds that readers have to take their farewell when the process is to end.
FAREWELL_S: Final = 1

# Channels per SUBSCRIBE: thousands in one command would hold the loop for long.
SLAB: Final = 1_000

BACKOFF: Final = ExponentialWithJitterBackoff(base=0.05, cap=1)

logger = structlog.get_logger()


class Hub:
    """Opens readers, and hears for all of them."""

    def __init__(self, redis: Redis, turns: Turns, url: str, heartbeat_s: float, probe_s: float) -> None:
        self.connected = False  # has heard itself
        self.draining = False
        self._turns = turns
        self._redis = redis
        self._heartbeat_s = heartbeat_s
        self._probe_s = probe_s
        self._own = keys.hub(token_hex(8)).encode()
        # No retries: every failure surfaces here, where the session is rebuilt. RESP2: what is heard are plain lists.
        # No time-out of the client's either, but ours: redis-py's is asyncio.wait_for, which in Python 3.11 may swallow
        # a cancel.
        self._pool: ConnectionPool = ConnectionPool.from_url(
            url,
            max_connections=1,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            client_name=f"tailrace-hub-{os.getpid()}",
        )
        self._pool.connection_kwargs["protocol"] = 2  # the URL may have said otherwise
        self._tails: dict[bytes, dict[str, Tail]] = {}  # by channel, then by content type
        self._following: dict[Tail, asyncio.Task[None]] = {}
        self._subscribe: set[bytes] = set()
        self._unsubscribe: set[bytes] = set()
        self._changed = asyncio.Event()
        self._confirmed = asyncio.Event()  # the own channel is subscribed to
        self._heard = asyncio.Event()  # a call of our own
        self._failures = 0
        self._readers: dict[Reader, Callable[[], None]] = {}

    def open(self, task: Task, written: Format, cursor: int, abort: Callable[[], None]) -> Reader:
        """A reader of the task's log from `cursor` (a seq) on. It must be closed.

        `abort` is called where it has not been a while after the process was told to end.
        """
        tail = self._closed_tail(task, written) if task.end else self._live_tail(task.task_id, written)
        tail.readers += 1
        reader = Reader(tail, cursor, self._turns)
        self._readers[reader] = abort
        return reader

    def close(self, reader: Reader) -> None:
        """The reader is gone, and with a stream's last one its subscription. Synchronous: no cancel interrupts it."""
        del self._readers[reader]
        tail = reader.tail
        tail.readers -= 1
        if tail.readers == 0 and tail in self._following:
            self._drop(tail)

    def pages(self, task_id: str) -> Pages:
        """Reads a log page by page, in turns with the readers that are behind."""
        return Pages(self._redis, task_id, self._turns)

    def drain(self) -> None:
        """Let every reader end: the process is about to."""
        self.draining = True
        for tail in self._following:
            tail.beat()
        asyncio.get_running_loop().call_later(FAREWELL_S, self._abort)

    def _abort(self) -> None:
        for abort in list(self._readers.values()):
            abort()

    async def run(self) -> None:
        """Own the connection, for ever."""
        while True:
            try:
                await self._session()
            # redis-py lets more than its own errors through where a connection drops under a write: a RuntimeError of
            # uvloop's, an AttributeError. Whatever it is, the session is rebuilt.
            except* Exception as group:  # noqa: BLE001  # see above
                self._failures += 1
                errors = [repr(error) for error in group.exceptions]
                logger.warning("hub disconnected", errors=errors, failures=self._failures)
            await asyncio.sleep(BACKOFF.compute(min(self._failures, 10)))

    def _closed_tail(self, task: Task, written: Format) -> Tail:
        tail = Tail(self._redis, task.task_id, written, self._heartbeat_s)
        tail.place_at_end(task.length)
        return tail

    def _live_tail(self, task_id: str, written: Format) -> Tail:
        channel = keys.channel(task_id).encode()
        tails = self._tails.setdefault(channel, {})
        tail = tails.get(written.media_type)
        if tail is None:
            tail = tails[written.media_type] = Tail(self._redis, task_id, written, self._heartbeat_s)
            following = self._following[tail] = asyncio.create_task(tail.follow())
            following.add_done_callback(lambda task: self._followed(tail, task))
            self._unsubscribe.discard(channel)
            self._subscribe.add(channel)
            self._changed.set()
        return tail

    def _followed(self, tail: Tail, task: asyncio.Task[None]) -> None:
        """Its end was read, or it was given up: whoever opens the stream from now on gets a tail of its own."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("tail gave up", task_id=tail.task_id, exc_info=error)
            tail.give_up()
        if tail in self._following:
            self._drop(tail)

    def _drop(self, tail: Tail) -> None:
        self._following.pop(tail).cancel()
        channel = keys.channel(tail.task_id).encode()
        del self._tails[channel][tail.format.media_type]
        if not self._tails[channel]:
            del self._tails[channel]
            self._subscribe.discard(channel)
            self._unsubscribe.add(channel)
            self._changed.set()

    async def _session(self) -> None:
        async with asyncio.timeout(self._probe_s):
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            self._subscribe, self._unsubscribe = {self._own, *self._tails}, set()
            self._confirmed.clear()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(connection))
                group.create_task(self._probe())
                group.create_task(self._ask(connection))
        finally:
            self.connected = False
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _ask(self, connection: Connection) -> None:
        """Say what should be heard, whenever it changes."""
        while True:
            self._changed.clear()
            async with asyncio.timeout(self._probe_s):
                await self._send(connection, "SUBSCRIBE", self._subscribe)
                await self._send(connection, "UNSUBSCRIBE", self._unsubscribe)
            await self._changed.wait()

    async def _send(self, connection: Connection, command: str, channels: set[bytes]) -> None:
        while channels:
            slab = list(islice(channels, SLAB))
            channels.difference_update(slab)
            await connection.send_command(command, *slab, check_health=False)
            _heed_cancel()

    async def _probe(self) -> None:
        """Call ourselves again and again, however much else is heard."""
        async with asyncio.timeout(self._probe_s):
            await self._confirmed.wait()
        while True:
            self._heard.clear()
            if await self._call():
                async with asyncio.timeout(self._probe_s):
                    await self._heard.wait()
                self.connected, self._failures = True, 0
            await asyncio.sleep(self._probe_s)

    async def _call(self) -> bool:
        """Whether Redis took the call. If not, that is no fault of this connection's."""
        try:
            await self._redis.publish(self._own, b"")
        except RedisError as error:
            logger.warning("hub not probed", error=str(error))
            return False
        _heed_cancel()
        return True

    async def _listen(self, connection: Connection) -> None:
        while True:
            heard = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            kind, channel, line = heard
            tails = self._tails.get(channel, {}).values()
            if channel == self._own:
                (self._heard if kind == b"message" else self._confirmed).set()
            elif kind == b"message":
                for tail in tails:
                    tail.ring(line)
            elif kind == b"subscribe":
                for tail in tails:
                    tail.look()


def _heed_cancel() -> None:
    """End here if this task was told to.

    In Python 3.11 `asyncio.wait_for`, with which redis-py sends, swallows a cancel that comes when it is done. A
    session that has broken would then wait for what it cannot hear, and be deaf all the while.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
