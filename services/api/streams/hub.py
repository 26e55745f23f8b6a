"""The one pub/sub connection of this process, and the tails that it feeds.

One task owns the connection: redis-py's connections are not safe to share. It never waits for a reader. The channels to
subscribe to are state (`_tails`). A change of that state only sets an event, so opening a stream never waits for Redis,
and a reconnect subscribes to everything anew. This is a connection of its own rather than redis-py's `PubSub`, because
that one reconnects from within a read, during which a concurrent subscribe may meet a half-open connection (redis-py
8.1).

A connection that raises no error may still receive nothing: its other end may have vanished silently, or be a server
that was replaced by another. So the hub publishes probes to itself, through the connections that commands use, and
rebuilds its connection when it does not receive one.
"""

import asyncio
import math
from collections.abc import Callable
from itertools import islice
from secrets import token_hex
from typing import Final

import structlog
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from plugins import keys
from services.api.settings import Settings
from services.api.streams.formats import Format
from services.api.streams.page_budget import PageBudget
from services.api.streams.pages import MIN_ENTRIES, Pages, PageSemaphore, first_entries
from services.api.streams.reader import Reader
from services.api.streams.tail import Tail
from services.api.tasks.task import Task

# Seconds that clients have to receive the closing frame when the process stops.
CLOSING_S: Final = 1

# Channels per SUBSCRIBE: thousands in one command would block the loop for long.
MAX_CHANNELS: Final = 1_000

BACKOFF: Final = ExponentialWithJitterBackoff(base=0.05, cap=1)

logger = structlog.get_logger()


class Hub:
    """Opens readers, and receives for all of them, on the one connection of `pool`."""

    def __init__(self, redis: Redis, settings: Settings, pool: ConnectionPool) -> None:
        self.connected = False  # has received its own probe
        self.draining = False
        self.send_timeout_s: Final = settings.send_timeout_s
        self._redis = redis
        self._heartbeat_s = settings.heartbeat_s
        self._probe_s = settings.probe_s
        # Late readers may wait longer than other commands do for a free connection; but not longer than a heartbeat.
        self.page_semaphore: Final = PageSemaphore(settings.redis_connections, settings.heartbeat_s)
        self._page_budget = PageBudget(settings.page_bytes, settings.heartbeat_s)
        self._probe_channel = keys.hub(token_hex(8)).encode()
        self._pool = pool
        self._tails: dict[bytes, dict[str, Tail]] = {}  # by channel, then by content type
        self._following: dict[Tail, asyncio.Task[None]] = {}
        self._subscribe: set[bytes] = set()
        self._unsubscribe: set[bytes] = set()
        self._changed = asyncio.Event()
        self._confirmed = asyncio.Event()  # the probe channel is subscribed to
        self._probe_received = asyncio.Event()
        self._failures = 0
        self._readers: dict[Reader, Callable[[], None]] = {}

    def open(self, task: Task, fmt: Format, cursor: int, abort: Callable[[], None]) -> Reader:
        """Return a reader of the task's log from `cursor` (a seq) on. It must be closed.

        `abort` is called if the reader is still open `CLOSING_S` after `drain`.
        """
        if (end := task.end_line) is not None:
            tail = Tail(self._redis, task.task_id, fmt, self._heartbeat_s)
            tail.place_at_end(end)
        else:
            tail = self._live_tail(task, fmt)
        tail.readers += 1
        reader = Reader(tail, cursor, self.page_semaphore, self._page_budget)
        self._readers[reader] = abort
        return reader

    def close(self, reader: Reader) -> None:
        """Close the reader, and the subscription with its last reader. Synchronous: no cancel interrupts it."""
        del self._readers[reader]
        reader.close()
        tail = reader.tail
        tail.readers -= 1
        if tail.readers == 0 and tail in self._following:
            self._drop(tail)

    def pages(self, task: Task) -> Pages:
        """Return the pages of a log. They share the semaphore of the readers that are behind."""
        known = task.last_bytes and not task.end  # an end says nothing of the chunks before it
        first = first_entries(task.last_bytes) if known else MIN_ENTRIES
        return Pages(self._redis, task.task_id, self.page_semaphore, first)

    def drain(self) -> None:
        """End all readers, because the process stops: wake them, and abort those that remain after `CLOSING_S`."""
        self.draining = True
        for tail in self._following:
            tail.heartbeat()
        asyncio.get_running_loop().call_later(CLOSING_S, self._abort)

    def _abort(self) -> None:
        for abort in list(self._readers.values()):
            abort()

    async def run(self) -> None:
        """Keep the connection, for ever: rebuild it after every failure."""
        while True:
            try:
                await self._session()
            # If a connection drops during a write, redis-py raises more than its own errors: a RuntimeError of
            # uvloop's, an AttributeError. Whatever it is, the session is rebuilt.
            except* Exception as group:  # noqa: BLE001  # see above
                self._failures += 1
                errors = [repr(error) for error in group.exceptions]
                logger.warning("hub disconnected", errors=errors, failures=self._failures)
            await asyncio.sleep(BACKOFF.compute(min(self._failures, 10)))

    def _live_tail(self, task: Task, fmt: Format) -> Tail:
        channel = keys.channel(task.task_id).encode()
        tails = self._tails.setdefault(channel, {})
        tail = tails.get(fmt.media_type)
        if tail is not None and tail.ended:  # the log has lost its end since
            self._drop(tail)
            tails, tail = self._tails.setdefault(channel, {}), None
        if tail is None:
            tail = tails[fmt.media_type] = Tail(self._redis, task.task_id, fmt, self._heartbeat_s)
            if not (task.attempt or task.length):
                tail.place_at_start()
            following = self._following[tail] = asyncio.create_task(tail.follow())
            following.add_done_callback(lambda task: self._on_follow_done(tail, task))
            self._unsubscribe.discard(channel)
            self._subscribe.add(channel)
            self._changed.set()
        return tail

    def _on_follow_done(self, tail: Tail, task: asyncio.Task[None]) -> None:
        """Drop a tail that has read its end, or has failed: readers that are opened from now on get another tail."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("tail failed", task_id=tail.task_id, exc_info=error)
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
            self._subscribe, self._unsubscribe = {self._probe_channel, *self._tails}, set()
            self._confirmed.clear()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(connection))
                group.create_task(self._probe())
                group.create_task(self._sync_subscriptions(connection))
        finally:
            self.connected = False
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _sync_subscriptions(self, connection: Connection) -> None:
        """Subscribe and unsubscribe whenever the set of channels changes."""
        while True:
            self._changed.clear()
            async with asyncio.timeout(self._probe_s):
                await self._send(connection, "SUBSCRIBE", self._subscribe)
                await self._send(connection, "UNSUBSCRIBE", self._unsubscribe)
            await self._changed.wait()

    async def _send(self, connection: Connection, command: str, channels: set[bytes]) -> None:
        while channels:
            batch = list(islice(channels, MAX_CHANNELS))
            channels.difference_update(batch)
            await connection.send_command(command, *batch, check_health=False)
            _raise_swallowed_cancel()

    async def _probe(self) -> None:
        """Publish a probe at intervals, and wait for it, however many other messages arrive."""
        async with asyncio.timeout(self._probe_s):
            await self._confirmed.wait()
        while True:
            self._probe_received.clear()
            if await self._publish_probe():
                async with asyncio.timeout(self._probe_s):
                    await self._probe_received.wait()
                self.connected, self._failures = True, 0
            await asyncio.sleep(self._probe_s)

    async def _publish_probe(self) -> bool:
        """Publish a probe. Return whether Redis accepted it: a refusal is no failure of this connection."""
        try:
            await self._redis.publish(self._probe_channel, b"")
        except RedisError as error:
            logger.warning("hub probe failed", error=str(error))
            return False
        _raise_swallowed_cancel()
        return True

    async def _listen(self, connection: Connection) -> None:
        while True:
            message = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            kind, channel, line = message
            tails = self._tails.get(channel, {}).values()
            if channel == self._probe_channel:
                (self._probe_received if kind == b"message" else self._confirmed).set()
            elif kind == b"message":
                for tail in tails:
                    tail.on_published(line)
            elif kind == b"subscribe":
                for tail in tails:
                    tail.on_confirmed()


def _raise_swallowed_cancel() -> None:
    """Raise the cancel of this task that may have been swallowed.

    In Python 3.11 `asyncio.wait_for`, with which redis-py sends, swallows a cancel that arrives when it is done. A
    broken session would then wait for a message that it cannot receive, and all readers with it.

    Raises:
        asyncio.CancelledError: the task was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
