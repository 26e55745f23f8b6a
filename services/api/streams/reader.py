"""One reader of a stream: a cursor into its tail, and pages of the list while it is behind."""

import asyncio
from itertools import count
from typing import Final

import structlog
from redis.exceptions import RedisError

from services.api import foreign
from services.api.streams.late_pages import LatePages
from services.api.streams.page_budget import PageBudget
from services.api.streams.pages import Pages, PageSemaphore
from services.api.streams.tail import RETRY_PAUSE_S, Tail

logger = structlog.get_logger()


class Reader:
    """Reads from a cursor to the end."""

    __slots__ = ("_budget", "_epoch", "_heartbeats", "_pages", "_semaphore", "cursor", "ended", "tail")

    def __init__(self, tail: Tail, cursor: int, semaphore: PageSemaphore, budget: PageBudget) -> None:
        self.tail: Final = tail
        self.cursor = cursor  # seq of the entry to read next
        self.ended = False
        self._epoch = tail.epoch
        self._heartbeats = tail.heartbeats
        self._pages: LatePages | None = None
        self._semaphore = semaphore
        self._budget = budget

    @property
    def behind(self) -> bool:
        """Whether the next entries must be read from the list, by `page`."""
        tail = self.tail
        return self.cursor < tail.first and self._epoch == tail.epoch and not tail.broken

    @property
    def complete(self) -> bool:
        """Whether it has read the task's end: it may also end because the log is lost."""
        return self.ended and self.tail.ended and self.cursor == self.tail.next

    def cut(self) -> None:
        """End here, although more may come: the caller may read no more."""
        self.ended = True

    def take(self) -> bytes | None:
        """Return all new frames in one piece; an empty one if a heartbeat passed without any.

        Return None if there are none yet, or if the reader is behind. After the last piece `ended` is true.
        """
        tail = self.tail
        if self._epoch != tail.epoch:
            return self._gap(tail.remaining)
        if tail.broken:
            self.ended = True
            return b""
        if self.cursor < tail.first:
            return None
        if self.cursor < tail.next:
            piece = tail.batch(self.cursor)
            self.cursor, self.ended = tail.next, tail.ended
            return piece
        if tail.ended:
            self.ended = True
            return b""
        if self._heartbeats != tail.heartbeats:
            self._heartbeats = tail.heartbeats
            return b""
        return None

    async def read(self) -> bytes:
        """Wait for new frames, and return them; an empty piece if a heartbeat passed, or if Redis gives no page now."""
        while (piece := self.take()) is None:
            if self.behind:
                return await self.page()
            await self.tail.waiters.changed()
        return piece

    async def page(self) -> bytes:
        """Return frames between the cursor and the window; an empty piece if Redis does not give them now, or if it is
        not this reader's turn yet.

        `page_sent` must be called when the client's kernel has them.
        """
        tail = self.tail
        try:
            lines = await self._next_lines()
            if lines == [] and self.behind and tail.ended:
                # Nothing else looks at the list any more. The answer may have been read ahead, or by a server that was
                # behind.
                lines = await self._next_lines()
        except RedisError as error:
            logger.warning("page not read", task_id=tail.task_id, error=str(error))
            # Another program may have put something else in the place of the log.
            self.ended = self.ended or foreign.is_wrong_type(error)
            await asyncio.sleep(RETRY_PAUSE_S)
            return b""
        if lines is None or self._epoch != tail.epoch:
            return b""  # `take` announces the loss
        if not lines:
            return await self._lost()
        try:
            piece = tail.format.frames(self.cursor, lines)
        except ValueError:  # some line is not ours
            piece = b"".join(map(tail.frame_of, count(self.cursor), lines))
        self.cursor += len(lines)
        return piece

    def page_sent(self) -> None:
        """Hold the last page no more."""
        if self._pages is not None:
            self._pages.release()

    def close(self) -> None:
        """Hold no page any more. Synchronous: no cancel interrupts it."""
        if self._pages is not None:
            self._pages.close()
            self._pages = None

    async def _next_lines(self) -> list[bytes] | None:
        """Read the next lines of the list. Return an empty list if it is not, or not any more, the log that the tail
        has; None if it is not this reader's turn yet.
        """
        tail = self.tail
        if self._pages is None:
            pages = Pages(tail.redis, tail.task_id, self._semaphore, tail.first_page_entries)
            self._pages = LatePages(pages, self._budget)
        # Together with the first entry of the window. The window continues the pages only if both have the same one.
        lines = await self._pages.read_on(self.cursor, tail.first + 1)
        if lines is None:
            return None
        if self._epoch == tail.epoch and self.cursor + len(lines) == tail.first:
            del lines[-1:]  # so that the next page has one before that entry
        if self._epoch != tail.epoch or not lines or not tail.continues(self.cursor, lines):
            self.close()  # nor is what it has read ahead
            return []
        return lines

    async def _lost(self) -> bytes:
        # The list is not what it was. A tail that still follows it finds out, and informs all its readers.
        if self.tail.ended:
            self.ended = True
            return self._gap(0)
        if not self.tail.broken:
            self.tail.request_rescan()
            await self.tail.waiters.changed()
        return b""

    def _gap(self, length: int) -> bytes:
        after, self.cursor, self._epoch = self.cursor - 1, 0, self.tail.epoch
        self.close()  # it may have read ahead in the log that was lost
        return self.tail.format.gap(after, length)
