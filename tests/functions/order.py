"""A function that says when it was begun, among others."""

from collections.abc import Iterator
from pathlib import Path

from plugins import function


@function()
def lines_up(file: str, line: str) -> Iterator[str]:
    """Add a line to a file, and yield it."""
    with Path(file).open("a") as lines:
        lines.write(f"{line}\n")
    yield line
