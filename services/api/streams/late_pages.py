"""The pages of one late reader, one after another: the page that is sent, and one that Redis prepares meanwhile."""

import asyncio
from typing import NamedTuple

from services.api.streams.page_budget import Loan, PageBudget
from services.api.streams.pages import Pages


class _Ahead(NamedTuple):
    """A page that is read ahead, from the entry `start` on."""

    start: int
    loan: Loan
    reading: asyncio.Task[list[bytes]]


class LatePages:
    """Reads page after page, with a loan of `budget` for each."""

    def __init__(self, pages: Pages, budget: PageBudget) -> None:
        self._pages = pages
        self._budget = budget
        self._asked: Loan | None = None  # waits for its turn
        self._held: Loan | None = None  # of the page that is read, or sent
        self._ahead: _Ahead | None = None
        self._closed = False

    async def read_on(self, start: int, stop: int) -> list[bytes] | None:
        """Return the next page of entries from `start` to `stop` (exclusive) at most; an empty one if there are none.

        Return None if it is not this reader's turn yet. The page before is not held any more.

        Raises:
            redis.exceptions.RedisError: as `Pages.read`.
        """
        self.release()
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.start == start:
            self._held = ahead.loan
            lines = await ahead.reading
        else:
            if ahead is not None:
                ahead.loan.give_back()
            if self._closed:
                return None
            self._asked = self._asked or self._budget.borrow()
            if not await self._asked.granted():
                return None
            self._held, self._asked = self._asked, None
            lines = await self._read(self._held, start, stop)
        if lines:
            self._read_ahead(start + len(lines), stop)
            await asyncio.sleep(0)  # it is sent before the caller is busy with this page
        return lines

    def release(self) -> None:
        """Give back the loan of the page that was read last: the client's kernel has it, or the read has failed."""
        if self._held is not None:
            self._held.give_back()
            self._held = None

    def close(self) -> None:
        """Give back all loans. Synchronous: no cancel interrupts it."""
        self._closed = True
        self.release()
        if self._asked is not None:
            self._asked.give_back()
        if self._ahead is not None:
            self._ahead.loan.give_back()
            self._ahead = None

    def _read_ahead(self, start: int, stop: int) -> None:
        if start < stop and not self._closed and (loan := self._budget.borrow_now()) is not None:
            reading = asyncio.ensure_future(self._read(loan, start, stop))
            reading.add_done_callback(_retrieve_error)
            self._ahead = _Ahead(start, loan, reading)

    async def _read(self, loan: Loan, start: int, stop: int) -> list[bytes]:
        lines, size = await self._pages.measured(start, stop)
        loan.settle(size)
        return lines


def _retrieve_error(reading: asyncio.Task[list[bytes]]) -> None:
    # Its reader may have been closed. Then asyncio would log an error that was never retrieved.
    if not reading.cancelled():
        reading.exception()
