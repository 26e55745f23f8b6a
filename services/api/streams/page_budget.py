"""The bytes of pages that the late readers of a process hold: a budget, and a loan from it for each page.

A page counts from its read until the client's kernel has all of it, or its reader is closed. A reader that is to read a
page waits for its turn, first come, first served, and holds nothing meanwhile: so no two readers wait for each other.
A page that is read ahead is lent only if there is room and no reader waits. A reader whose client takes nothing is
closed after the send timeout, and its loans come back.
"""

import asyncio
from typing import Final

from services.api.streams.pages import PAGE_BYTES


class PageBudget:
    """Lends bytes for pages. A page is lent as long as any byte is free: its size is known when it has come.

    Args:
        size: the bytes that all pages together may have. They may exceed it by the pages that are being read.
        patience_s: seconds after which a reader that waits for its turn sends a heartbeat, and waits on.
    """

    def __init__(self, size: int, patience_s: float) -> None:
        self.patience_s: Final = patience_s
        self._free = size
        self._waiting: dict[Loan, None] = {}  # in order

    def borrow(self) -> "Loan":
        """Return a loan that is granted when it is its turn. It must be given back."""
        loan = Loan(self)
        self._waiting[loan] = None
        self._grant()
        return loan

    def borrow_now(self) -> "Loan | None":
        """Return a loan that is granted, or None if there is no room now."""
        return self.borrow() if self._free > 0 and not self._waiting else None

    def change(self, loan: "Loan", by: int) -> None:
        """Let a loan have so many bytes more, or fewer, and grant those for which there is room now."""
        self._waiting.pop(loan, None)  # it is given back before its turn
        self._free -= by
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._free > 0:
            self._free -= PAGE_BYTES
            first = next(iter(self._waiting))
            del self._waiting[first]
            first.grant()


class Loan:
    """The bytes of one page: `PAGE_BYTES` when it is granted, and then as many as the page has."""

    __slots__ = ("_budget", "_granted", "_returned", "_size")

    def __init__(self, budget: PageBudget) -> None:
        self._budget = budget
        self._size = 0
        self._granted = asyncio.Event()
        self._returned = False

    def grant(self) -> None:
        """Count as a page from now on. Called by the budget, once."""
        self._size = PAGE_BYTES
        self._granted.set()

    async def granted(self) -> bool:
        """Wait until it is granted. Return False if it is not yet when the budget's patience is over."""
        if not self._granted.is_set():
            waiting = asyncio.ensure_future(self._granted.wait())
            try:
                await asyncio.wait([waiting], timeout=self._budget.patience_s)
            finally:
                waiting.cancel()
        return self._granted.is_set()

    def settle(self, size: int) -> None:
        """Count as this page, which has come, unless the loan was given back meanwhile."""
        if not self._returned:
            more, self._size = size - self._size, size
            self._budget.change(self, more)

    def give_back(self) -> None:
        """Count no more. Giving it back twice does no harm."""
        self.settle(0)
        self._returned = True
