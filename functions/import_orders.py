"""A long import that goes on where it was: after its worker is killed, too.

What makes it so: it is `resumable`, it yields a `Progress` after each batch that is stored, and storing a batch twice
does no harm, because a worker may die between storing it and saying so. It looks at both, what was said and what is
stored: a worker on another machine finds a file of its own, and begins again. The orders of a shop stand for whatever
you import page by page; a SQLite file (`ORDERS_DB`) for a database that all workers share.
"""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from plugins import Context, Event, Progress, function

BATCH: Final = 100

Order = tuple[int, str, int]


def page(after: int, most: int) -> list[Order]:
    """The shop's orders after this one: number, customer, cents."""
    return [(number, f"customer {number % 97}", number * 7 % 10_000) for number in range(after + 1, after + most + 1)]


def store() -> sqlite3.Connection:
    """Where they go."""
    database = sqlite3.connect(os.environ.get("ORDERS_DB") or Path(tempfile.gettempdir()) / "tailrace-orders.sqlite3")
    database.execute("CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, customer TEXT, cents INTEGER)")
    return database


@function(retries=5, backoff=2, resumable=True, timeout=14_400, concurrency=1)
def import_orders(
    orders: Annotated[int, Field(ge=1, le=1_000_000)],
    context: Context,
    every: Annotated[float, Field(ge=0, le=60)] = 0.0,
) -> Iterator[Progress]:
    """Import a shop's orders, and go on where an earlier attempt was.

    Args:
        orders: how many.
        every: seconds between batches, as a slow shop would take.
    """
    said = max((event.data["done"] for event in context.yielded if isinstance(event, Event)), default=0)
    with closing(store()) as database:
        (last,) = database.execute("SELECT coalesce(max(number), 0) FROM orders").fetchone()
        stored = min(said, last)
        context.logger.info("import begins", after=stored)
        while stored < orders:
            batch = page(stored, min(BATCH, orders - stored))
            with database:  # one transaction
                database.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", batch)
            stored += len(batch)
            yield Progress(stored, orders, "orders")
            context.stopping.wait(every)  # a sleep that a cancel ends
