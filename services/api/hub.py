"""The one pub/sub connection of this process, and the tails that live on it.

One task owns the connection: redis-py's connections are not safe to share. It never waits for a reader. What it should
be subscribed to is state (`_tails`); whoever changes it leaves a note and goes on, so opening a stream never waits for
Redis, and a reconnect subscribes to everything anew. A connection of ours rather than redis-py's `PubSub`, because that
one reconnects from within a read, where a concurrent subscribe may meet it half-way (redis-py 8.1).
"""

import asyncio
import math
import os
from itertools import islice
from typing import Final

import structlog
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from plugins import keys
from services.api.frames import Format
from services.api.reader import Reader
from services.api.tail import Tail
from services.api.task import Task

# Seconds between two signs of life from Redis. A half-open connection raises nothing: it is only silent.
PROBE_S: Final = 5

# Channels per SUBSCRIBE: thousands in one command would hold the loop for long.
SLAB: Final = 1_000

BACKOFF: Final = ExponentialWithJitterBackoff(base=0.05, cap=1)

logger = structlog.get_logger()


class Hub:
    """Opens readers, and hears for all of them."""

    def __init__(self, redis: Redis, url: str, heartbeat_s: float) -> None:
        self.connected = False
        self.draining = False
        self._redis = redis
        self._heartbeat_s = heartbeat_s
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
        self._heard = False
        self._failures = 0

    def open(self, task: Task, written: Format, cursor: int) -> Reader:
        """A reader of the task's log from `cursor` (a seq) on. It must be closed."""
        tail = self._closed_tail(task, written) if task.end else self._live_tail(task.task_id, written)
        tail.readers += 1
        return Reader(tail, cursor)

    def close(self, reader: Reader) -> None:
        """The reader is gone, and with a stream's last one its subscription. Synchronous: no cancel interrupts it."""
        tail = reader.tail
        tail.readers -= 1
        if tail.readers == 0 and tail in self._following:
            self._drop(tail)

    def drain(self) -> None:
        """Let every reader end: the process is about to."""
        self.draining = True
        for tail in self._following:
            tail.beat()

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
        async with asyncio.timeout(PROBE_S):
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            self._subscribe, self._unsubscribe = set(self._tails), set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(connection))
                group.create_task(self._probe(connection))
                group.create_task(self._ask(connection))
        finally:
            self.connected = False
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _ask(self, connection: Connection) -> None:
        """Say what should be heard, whenever it changes."""
        while True:
            self._changed.clear()
            async with asyncio.timeout(PROBE_S):
                await self._send(connection, "SUBSCRIBE", self._subscribe)
                await self._send(connection, "UNSUBSCRIBE", self._unsubscribe)
            self.connected, self._failures = True, 0
            await self._changed.wait()

    async def _send(self, connection: Connection, command: str, channels: set[bytes]) -> None:
        while channels:
            slab = list(islice(channels, SLAB))
            channels.difference_update(slab)
            await connection.send_command(command, *slab, check_health=False)

    async def _probe(self, connection: Connection) -> None:
        """Ask for a sign of life again and again, however much else is said."""
        while True:
            self._heard = False
            async with asyncio.timeout(PROBE_S):
                await connection.send_command("PING", check_health=False)
            await asyncio.sleep(PROBE_S)
            if not self._heard:
                raise RedisConnectionError(f"Redis was silent for {PROBE_S} s")

    async def _listen(self, connection: Connection) -> None:
        while True:
            heard = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            self._heard = True
            if not isinstance(heard, list) or len(heard) != 3:
                continue  # the answer to a probe
            kind, channel, line = heard
            tails = self._tails.get(channel, {}).values()
            if kind == b"message":
                for tail in tails:
                    tail.ring(line)
            elif kind == b"subscribe":
                for tail in tails:
                    tail.look()
