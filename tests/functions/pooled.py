"""A function that needs what is made once per process."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from plugins import function


class Pool:
    """Stands for what is slow to make: it knows how often it was used."""

    def __init__(self) -> None:
        self.uses = 0


@asynccontextmanager
async def lifespan() -> AsyncIterator[Pool]:
    """Make it; when the worker stops, note how often it was used."""
    pool = Pool()
    yield pool
    if note := os.environ.get("POOL_NOTE"):
        await anyio.Path(note).write_text(f"used {pool.uses} times")


@function()
async def uses_the_pool(pool: Pool) -> int:
    """Use it, and say how often it was used."""
    pool.uses += 1
    return pool.uses
