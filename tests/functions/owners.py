"""A function that returns the owner of its task."""

from plugins import Context, function


@function
async def whose(context: Context) -> str:
    """Return the owner."""
    return context.owner
