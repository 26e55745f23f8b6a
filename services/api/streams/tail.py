"""The read rule: every reader sees every entry once, in order, whenever it arrives.

All readers of a stream in this process share one `Tail`: one subscription, one read position, and a short window of
ready-made frames. A reader is a cursor into it; one that falls behind the window reads pages of the list.

1. The list is read at once, for those who come late; and again once the subscription is confirmed. In that order
   nothing falls between.
2. A published entry is taken if its seq is the next one. If it is later, the list is read; if earlier, it is dropped,
   unless it stands where another was taken: then the log was lost in part, and the list tells.
3. Every confirmation (they come again after a reconnect) and every heartbeat read the list again: a lost ring heals.
4. After an end, the reader is at its end.
"""

import asyncio
from contextlib import nullcontext
from typing import Final, Protocol

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import entries, keys
from services.api.streams.formats import Format
from services.api.streams.pages import Pages

logger = structlog.get_logger()

# The window's bounds: room for a burst, little enough that a thousand live streams fit.
WINDOW_ENTRIES: Final = 4_096
WINDOW_BYTES: Final = 524_288

# Seconds until the list is read again after Redis refused.
PAUSE_S: Final = 1

# Readers woken at once: then everything else in the process gets its turn, other streams first of all.
SLAB: Final = 128


class Waiting(Protocol):
    """Somebody who waits for something new in a stream."""

    def wake(self) -> None:
        """There may be something, or a heartbeat has passed. Called once for each time it has waited."""


class Tail:
    """The live end of one stream, shared by its readers. `follow` is its task; all else but waiting is synchronous."""

    def __init__(self, redis: Redis, task_id: str, written: Format, heartbeat_s: float) -> None:
        self.task_id: Final = task_id
        self.format: Final = written
        self.redis: Final = redis
        self.readers = 0
        self.first = 0  # seq of the first frame in the window
        self.next = 0  # seq of the entry to take next: one behind the window
        self.epoch = 0  # counts how often the log was found to be another than it had been
        self.beats = 0  # counts heartbeats
        self.left = 0  # its length when that was found
        self.ended = False
        self.broken = False
        self._heartbeat_s = heartbeat_s
        self._placed = False
        self._pages = Pages(redis, task_id, nullcontext())  # what is live waits for nobody who is late
        self._newest: list[bytes] = []  # the last entry taken, if any
        self._frames: list[bytes] = []
        self._bytes = 0
        self._batch: tuple[int, int, bytes] = (0, 0, b"")
        self._look = asyncio.Event()
        self._waiting: set[Waiting] = set()
        self._due: set[Waiting] = set()  # to be woken; whoever waits again meanwhile is not among them
        self._news = False
        self._waking = False

    def place_at_end(self, length: int) -> None:
        """The log is closed and has this length: there is nothing to follow."""
        self.first = self.next = length
        self.ended = self._placed = True

    def look(self) -> None:
        """Read the list again: the subscription was confirmed (perhaps once more), or something seems to be missing."""
        self._look.set()

    def beat(self) -> None:
        """Let every reader say that it is still there."""
        self.beats += 1
        self._wake()

    def give_up(self) -> None:
        """Nothing follows the log any more: readers are let go, and their clients come back."""
        self.broken = True
        self._wake()

    def ring(self, line: bytes) -> None:
        """An entry was published."""
        if not self._placed:
            self._look.set()  # the first read may have been too early for it
            return
        try:
            entry = entries.decode(line)
        except msgspec.DecodeError:
            self._look.set()  # whoever published it: the list knows
            return
        if entry.seq == self.next:
            self._take(entry, line)
            self._wake()
        elif entry.seq > self.next or (entry.seq == self.next - 1 and [line] != self._newest):
            self._look.set()  # something is missing, or was replaced

    async def follow(self) -> None:
        """Read the list when told to, and at every heartbeat, until the end or until nobody reads."""
        pause = self._heartbeat_s
        self._look.set()
        while self.readers and not (self.ended or self.broken):
            silent = False
            try:
                async with asyncio.timeout(pause):
                    await self._look.wait()
            except TimeoutError:
                self.beats += 1
                silent = True
            self._look.clear()
            try:
                await self._catch_up()
                # A task whose metadata is lost nobody ends. Its readers come back, and learn that it is unknown.
                if silent and not (self.ended or await self.redis.exists(keys.metadata(self.task_id))):
                    self.broken = True
                pause = self._heartbeat_s
            except RedisError as error:
                logger.warning("log not read", task_id=self.task_id, error=str(error))
                pause = PAUSE_S
            self._wake()

    async def _catch_up(self) -> None:
        if not self._placed:
            # Earlier entries the readers fetch themselves; the last one tells whether there will be more.
            newest = await self._pages.newest()
            self.first = self.next = entries.decode(newest[0]).seq if newest else 0
            for line in newest:
                self._take(entries.decode(line), line)
            self._placed = True
            return  # what has come since is read when the subscription is confirmed: then nothing is missed
        while not (self.ended or self.broken):
            # With the entry before, if one was taken: in its place nothing else may stand.
            newest = self._newest
            start = self.next - len(newest)
            lines = await self._pages.read(start, start + WINDOW_ENTRIES)
            if lines[: len(newest)] != newest or (start and not lines):
                self._restart(await self.redis.llen(keys.log(self.task_id)))
                continue
            for seq, line in enumerate(lines, start):
                if seq == self.next:  # a ring may have been quicker
                    self._take(entries.decode(line), line)
            if len(lines) == len(newest):
                return
            self._wake()

    def _take(self, entry: entries.Entry, line: bytes) -> None:
        frame = self.format.frame(entry.seq, line)
        self._frames.append(frame)
        self._bytes += len(frame)
        self._newest = [line]
        self.next += 1
        self.ended = entry.ends
        if len(self._frames) > WINDOW_ENTRIES or self._bytes > WINDOW_BYTES:
            self._trim()

    def _trim(self) -> None:
        # By half, so that it is rare. The newest stays, however long it is.
        drop = max(1, len(self._frames) // 2)
        if drop < len(self._frames):
            self._bytes -= sum(map(len, self._frames[:drop]))
            del self._frames[:drop]
            self.first += drop

    def _restart(self, length: int) -> None:
        """Whatever a reader has, it is told; if nothing is left it is let go, to ask again what became of the task."""
        logger.warning("log is not what it was", task_id=self.task_id, had=self.next, has=length)
        self._newest = []
        self._batch = (0, 0, b"")
        self._frames.clear()
        self._bytes = 0
        self.first = self.next = 0
        self.left = length
        self.epoch += 1
        self.broken = length == 0

    def batch(self, cursor: int) -> bytes:
        """All frames from `cursor` on, which must be in the window, in one piece."""
        # Readers that keep up stand at the same place: what is joined for one serves all.
        start, stop, joined = self._batch
        if start != cursor or stop != self.next:
            joined = b"".join(self._frames[cursor - self.first :])
            self._batch = (cursor, self.next, joined)
        return joined

    def wait(self, who: Waiting) -> None:
        """Wake it once, as soon as there may be something new, or a heartbeat passes."""
        self._waiting.add(who)

    def leave(self, who: Waiting) -> None:
        """It waits no longer."""
        self._waiting.discard(who)
        self._due.discard(who)

    async def changed(self) -> None:
        """Wait until there may be something new, or a heartbeat passes."""
        waiter = _Waiter()
        self.wait(waiter)
        try:
            await waiter.woken
        finally:
            self.leave(waiter)

    def _wake(self) -> None:
        self._news = True
        if not self._waking:
            self._waking = True
            # Not at once: what was published together is heard together, and leaves together.
            asyncio.get_running_loop().call_soon(self._wake_slab)

    def _wake_slab(self) -> None:
        if not self._due and self._news:
            self._news = False
            self._due, self._waiting = self._waiting, set()
        if not self._due:
            self._waking = False
            return
        asyncio.get_running_loop().call_soon(self._wake_slab)
        for _ in range(min(SLAB, len(self._due))):
            self._due.pop().wake()


class _Waiter:
    def __init__(self) -> None:
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)
