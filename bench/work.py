"""The chunks that are published: so many, at a pace or as fast as they are taken, each with the time it was made at."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

# Stands once in every chunk, and nowhere else in what a server sends: readers count it, and find the time behind it.
MARK: Final = b"@"

# Digits of a time in ns since the epoch.
DIGITS: Final = 19


class Work(NamedTuple):
    """`chunks` many, `rate` per second, or as fast as they are taken where that is 0."""

    chunks: int
    rate: float = 0


async def chunks_of(work: Work) -> AsyncIterator[str]:
    """The chunks, each when its time has come: late ones are not made up for by skipping any."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(work.chunks):
        if work.rate and (wait := started + number / work.rate - loop.time()) > 0:
            await asyncio.sleep(wait)
        yield f"@{time.time_ns()}"
