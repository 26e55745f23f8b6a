"""One reader of a stream: a cursor into its tail, and pages of the list where it is behind."""

import asyncio
from typing import Final

import structlog
from redis.exceptions import RedisError

from services.api.streams.pages import Pages, Turns
from services.api.streams.tail import PAUSE_S, Tail

logger = structlog.get_logger()


class Reader:
    """Reads on from a cursor, to the end."""

    __slots__ = ("_beats", "_epoch", "_pages", "_turns", "cursor", "ended", "tail")

    def __init__(self, tail: Tail, cursor: int, turns: Turns) -> None:
        self.tail: Final = tail
        self.cursor = cursor  # seq of the entry to read next
        self.ended = False
        self._epoch = tail.epoch
        self._beats = tail.beats
        self._pages: Pages | None = None
        self._turns = turns

    @property
    def behind(self) -> bool:
        """Whether what is next must be read from the list: `page` does."""
        tail = self.tail
        return self.cursor < tail.first and self._epoch == tail.epoch and not tail.broken

    def take(self) -> bytes | None:
        """What is next, as much as there is, in one piece; nothing where a heartbeat passed in silence.

        None where it has to be waited for, or is behind. After the last piece `ended` is true.
        """
        tail = self.tail
        if self._epoch != tail.epoch:
            return self._gap(tail.left)
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
        if self._beats != tail.beats:
            self._beats = tail.beats
            return b""
        return None

    async def read(self) -> bytes:
        """The same, and wait for it: nothing only where a heartbeat passed, or Redis gives no page now."""
        while (piece := self.take()) is None:
            if self.behind:
                return await self.page()
            await self.tail.changed()
        return piece

    async def page(self) -> bytes:
        """Frames between the cursor and the window, or nothing where Redis does not give them now."""
        tail = self.tail
        self._pages = self._pages or Pages(tail.redis, tail.task_id, self._turns)
        try:
            lines = await self._pages.read_on(self.cursor, tail.first)
        except RedisError as error:
            logger.warning("page not read", task_id=tail.task_id, error=str(error))
            await asyncio.sleep(PAUSE_S)
            return b""
        if not lines:
            return await self._lost()
        piece = tail.format.frames(self.cursor, lines)
        self.cursor += len(lines)
        return piece

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
