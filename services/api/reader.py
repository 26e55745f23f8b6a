"""One reader of a stream: a cursor into its tail, and pages of the list where it is behind."""

import asyncio
from typing import Final

import structlog
from redis.exceptions import RedisError

from plugins import entries
from services.api.page import Pages
from services.api.tail import PAUSE_S, Tail

logger = structlog.get_logger()


class Reader:
    """Reads on from a cursor, to the end."""

    def __init__(self, tail: Tail, cursor: int) -> None:
        self.tail: Final = tail
        self.cursor = cursor  # seq of the entry to read next
        self.ended = False
        self._epoch = tail.epoch
        self._beats = tail.beats
        self._pages = Pages(tail.redis, tail.task_id)

    async def read(self) -> bytes:
        """What is next, as much as there is, in one piece; or nothing where a heartbeat passed in silence.

        After the last piece `ended` is true.
        """
        tail = self.tail
        while True:
            if self._epoch != tail.epoch:
                return self._gap(tail.left)
            if tail.broken:
                self.ended = True
                return b""
            if self.cursor < tail.first:
                return await self._page()
            if self.cursor < tail.next:
                piece = tail.batch(self.cursor)
                self.cursor, self.ended = tail.next, tail.ended
                return piece
            if tail.ended:
                self.ended = True
                return b""
            if self._beats != tail.beats:
                self._beats = tail.beats
                return b""
            await tail.changed()

    async def _page(self) -> bytes:
        """Frames between the cursor and the window, or nothing where Redis does not give them now."""
        try:
            lines = await self._pages.read(self.cursor, self.tail.first)
        except RedisError as error:
            logger.warning("page not read", task_id=self.tail.task_id, error=str(error))
            await asyncio.sleep(PAUSE_S)
            return b""
        if not lines:
            return await self._lost()
        self.cursor += len(lines)
        frame = self.tail.format.frame
        return b"".join([frame(entries.decode(line), line) for line in lines])

    async def _lost(self) -> bytes:
        # The list is shorter than it was. A tail that still follows it finds out, and tells all its readers.
        if self.tail.ended:
            self.ended = True
            return self._gap(0)
        if not self.tail.broken:
            self.tail.look()
            await self.tail.changed()
        return b""

    def _gap(self, length: int) -> bytes:
        asked, self.cursor, self._epoch = self.cursor - 1, 0, self.tail.epoch
        return self.tail.format.notice("gap", gap(asked, length))


def gap(after: int, length: int) -> dict[str, int]:
    """What a reader is told when entries it asked for, or was to get, are not there: then comes what is."""
    return {"after": after, "length": length}
