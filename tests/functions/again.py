"""Functions that need more than one attempt."""

from collections.abc import AsyncIterator

from plugins import Context, function


@function(retries=2, backoff=0.1)
async def fails_at_first(times: int, ctx: Context) -> AsyncIterator[str]:
    """Yield two chunks and raise, so many times; then say in three chunks which attempt it is."""
    if ctx.attempt <= times:
        yield f"lost {ctx.attempt}"
        yield "lost too"
        raise ConnectionError(f"attempt {ctx.attempt}")
    for part in ("this", "is", str(ctx.attempt)):
        yield part


@function(retries=5, backoff=0, resumable=True)
async def counts_on(to: int, stumbles: list[int], ctx: Context) -> AsyncIterator[int]:
    """Count from 1 to a number, over all attempts; raise once after each of some numbers."""
    for number in range(len(ctx.yielded) + 1, to + 1):
        yield number
        if number in stumbles[ctx.attempt - 1 :]:
            raise ConnectionError(f"stumbled over {number}")
