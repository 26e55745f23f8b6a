"""The read rule: every reader sees every entry once, in order, whenever it arrives.

All readers of a stream in this process share one `Tail`: one subscription, one read position, and a short window of
frames. A reader is a cursor into it; one that falls behind the window reads pages of the list.

1. The list is read at once, for late readers, unless no worker has claimed the task yet; and again once the
   subscription is confirmed. In that order no entry is missed between the two.
2. A published entry is appended if its seq is the next one. If it is later, the list is read; if earlier, it is
   dropped, unless other bytes stand in the place of the last entry: then a part of the log was lost, and the list is
   read.
3. Every confirmation (there is one after each reconnect) and every heartbeat read the list again: that makes up for a
   lost message. Such a read is compared with the entry that was the last one when it was sent, and with the
   one that is when it arrives.
4. After a confirmation no published entry is appended until a read that was sent later has found the last entry
   unchanged. A loss of entries breaks the subscription; an entry of the new one would hide it.
5. Pages end with the first entry of the window, and both must be the same: so a reader notices a loss that its tail,
   which has read the end, does not look for.
6. After an end, the reader has ended.
7. An end is taken from the list only: the script that publishes it has appended it before. A published end that the
   list lacks ends no stream.
8. An entry that cannot be read is skipped if others follow it. If it is the last one, the readers end: nothing of ours
   will follow it.
"""

import asyncio
from contextlib import nullcontext
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import entries, keys
from services.api import foreign
from services.api.streams.formats import Format
from services.api.streams.pages import MIN_ENTRIES, Pages, first_entries
from services.api.streams.waiters import Waiters

logger = structlog.get_logger()

# The window's bounds: room for a burst, little enough that a thousand live streams fit.
WINDOW_ENTRIES: Final = 4_096
WINDOW_BYTES: Final = 524_288

# Seconds until the list is read again after Redis refused.
RETRY_PAUSE_S: Final = 1


class Tail:
    """The live end of one stream, shared by its readers. `follow` is its task; only it waits for Redis."""

    def __init__(self, redis: Redis, task_id: str, fmt: Format, heartbeat_s: float) -> None:
        self.task_id: Final = task_id
        self.format: Final = fmt
        self.redis: Final = redis
        self.waiters: Final = Waiters()
        self.readers = 0
        self.first = 0  # seq of the first frame in the window
        self.next = 0  # seq of the next entry: one behind the window
        self.epoch = 0  # counts how often the log was found to have changed unexpectedly
        self.heartbeats = 0
        self.remaining = 0  # its length when that was found
        self.ended = False
        self.broken = False
        self._heartbeat_s = heartbeat_s
        self._positioned = False
        self._accepting = False  # takes published entries: no confirmation is later than the last comparison
        self._confirmations = 0
        self._pages = Pages(redis, task_id, nullcontext())  # live entries do not wait for late readers
        self._newest: list[bytes] = []  # the last entry of the window, if any
        self._readable = True  # unless that entry cannot be read
        self._published_end: bytes | None = None  # to be found in the list
        self._frames: list[bytes] = []
        self._bytes = 0
        self._batch: tuple[int, int, bytes] = (0, 0, b"")
        self._rescan = asyncio.Event()

    def place_at_end(self, line: bytes) -> None:
        """Set the position to the end of a closed log, of which this is the last entry: there is nothing to follow."""
        entry = entries.decode(line)
        self.first = self.next = entry.seq
        self._append(entry, line)
        self._positioned = True

    def place_at_start(self) -> None:
        """Set the position to the start of an empty log, whose task no worker had claimed when it was read. `follow`
        reads the list when the subscription is confirmed, and not before.
        """
        self._positioned = self._accepting = True

    def on_confirmed(self) -> None:
        """Read the list before the next published entry is taken: the subscription is new.

        Part of the log may have been lost before it. A published entry would hide that: the list has it, whatever it
        has in the places before.
        """
        self._confirmations += 1
        if self._newest:
            self._accepting = False
        self._rescan.set()

    def request_rescan(self) -> None:
        """Read the list again soon: an entry seems to be missing."""
        self._rescan.set()

    def heartbeat(self) -> None:
        """Wake every reader, so that it sends a heartbeat."""
        self.heartbeats += 1
        self.waiters.notify()

    def give_up(self) -> None:
        """End all readers, because nothing follows the log any more. Their clients reconnect."""
        self.broken = True
        self.waiters.notify()

    def on_published(self, line: bytes) -> None:
        """Append a published entry to the window, or request a rescan if it is not the next one."""
        if not self._accepting:
            self._rescan.set()  # the read in flight may be too early for it
            return
        entry = foreign.entry_of(self.task_id, line)
        if entry is None:
            self._rescan.set()  # the list has the entries
        elif entry.seq == self.next and entry.ends:
            self._published_end = line
            self._rescan.set()  # another program may have published it: then the list does not have it
        elif entry.seq == self.next:
            self._append(entry, line)
            self.waiters.notify()
        elif entry.seq > self.next or (entry.seq == self.next - 1 and [line] != self._newest):
            self._rescan.set()  # an entry is missing, or was replaced

    async def follow(self) -> None:
        """Read the list when requested, and at every heartbeat, until the end, or until the last reader is closed."""
        pause = self._heartbeat_s
        if not self._positioned:
            self._rescan.set()
        while self.readers and not (self.ended or self.broken):
            silent = False
            try:
                async with asyncio.timeout(pause):
                    await self._rescan.wait()
            except TimeoutError:
                self.heartbeats += 1
                silent = True
            self._rescan.clear()
            published_end, self._published_end = self._published_end, None
            try:
                await self._catch_up()
                if not self.broken and published_end not in (None, *self._newest):
                    foreign.log_once("published end is not in the log", self.task_id, "it is forged, or was lost")
                # If its metadata is lost, no process ends the task. Its readers reconnect, and get 404.
                if silent and not (self.ended or await self.redis.exists(keys.metadata(self.task_id))):
                    self.broken = True
                # Nor if another program has written the last entry. They get the problem that says so.
                self.broken = self.broken or not self._readable
                pause = self._heartbeat_s
            except RedisError as error:
                logger.warning("log not read", task_id=self.task_id, error=str(error))
                self.broken = foreign.is_wrong_type(error)
                pause = RETRY_PAUSE_S
            self.waiters.notify()

    async def _catch_up(self) -> None:
        confirmations = self._confirmations
        if not self._positioned:
            # Readers fetch earlier entries themselves; the last one shows whether there will be more.
            newest = await self._pages.newest()
            self.first = self.next = self._seq_of(newest)
            for line in newest:
                self._append(foreign.entry_of(self.task_id, line), line)
            self._positioned = True
            self._accepting = not newest or confirmations == self._confirmations
            return  # later entries are read when the subscription is confirmed: then nothing is missed
        while not (self.ended or self.broken):
            # Together with the newest entry of the window, if there is one: it must not have changed.
            newest, confirmations = self._newest, self._confirmations
            start = self.next - len(newest)
            lines = await self._pages.read(start, start + WINDOW_ENTRIES)
            if self.ended:
                return  # the end was published meanwhile
            same = lines[: len(newest)] == newest and bool(lines or not start)
            # Nor the newest by now, if the lines reach it: `on_published` may have been quicker than this read.
            index = self.next - 1 - start
            same = same and lines[index : index + 1] in ([], self._newest)
            self._accepting = same and confirmations == self._confirmations
            if not same:
                self._restart(await self.redis.llen(keys.log(self.task_id)))
                continue
            for seq, line in enumerate(lines, start):
                if seq == self.next:
                    self._append(foreign.entry_of(self.task_id, line), line)
            if len(lines) == len(newest):
                return
            self.waiters.notify()

    def _seq_of(self, lines: list[bytes]) -> int:
        """Return the seq of the first of these lines, the last ones of the list: as the first says that can be read."""
        found = ((at, entry) for at, line in enumerate(lines) if (entry := foreign.entry_of(self.task_id, line)))
        at, entry = next(found, (0, None))
        return max(0, entry.seq - at) if entry else 0

    def _append(self, entry: entries.Entry | None, line: bytes) -> None:
        frame = self.format.frame(self.next, line) if entry else b""
        self._frames.append(frame)
        self._bytes += len(frame)
        self._newest = [line]
        self.next += 1
        self._readable = entry is not None
        self.ended = entry is not None and entry.ends
        if len(self._frames) > WINDOW_ENTRIES or self._bytes > WINDOW_BYTES:
            self._trim()

    def _trim(self) -> None:
        # By half, so that it is rare. The newest frame stays, however long it is.
        drop = max(1, len(self._frames) // 2)
        if drop < len(self._frames):
            self._bytes -= sum(map(len, self._frames[:drop]))
            del self._frames[:drop]
            self.first += drop

    def _restart(self, length: int) -> None:
        """Reset after a lost log: readers get `gap`, or end if the log is empty; then their clients reconnect."""
        logger.warning("log changed unexpectedly", task_id=self.task_id, expected=self.next, length=length)
        self._newest = []
        self._readable = True
        self._batch = (0, 0, b"")
        self._frames.clear()
        self._bytes = 0
        self.first = self.next = 0
        self.remaining = length
        self.epoch += 1
        self.broken = length == 0

    @property
    def first_page_entries(self) -> int:
        """How many entries the first page of a late reader has, if they are as long as those of the window. An end
        alone says nothing of the chunks before it: then, the least.
        """
        only_end = self.ended and len(self._frames) == 1
        return MIN_ENTRIES if only_end else first_entries(self._bytes / max(1, len(self._frames)))

    def frame_of(self, seq: int, line: bytes) -> bytes:
        """Return the frame of a line; an empty one if it cannot be read."""
        return self.format.frame(seq, line) if foreign.entry_of(self.task_id, line) else b""

    def continues(self, start: int, lines: list[bytes]) -> bool:
        """Return whether the window continues these lines: it has the same first entry, if that is among them."""
        index = self.first - start
        return index >= len(lines) or self.frame_of(self.first, lines[index]) == self._frames[0]

    def batch(self, cursor: int) -> bytes:
        """Return all frames from `cursor` on, which must be in the window, in one piece."""
        # Readers that keep up have the same cursor: the frames are joined once for all of them.
        start, stop, joined = self._batch
        if start != cursor or stop != self.next:
            joined = b"".join(self._frames[cursor - self.first :])
            self._batch = (cursor, self.next, joined)
        return joined
