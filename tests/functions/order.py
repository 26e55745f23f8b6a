"""Functions that say when they were begun, among others."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from plugins import function


@function()
def lines_up(file: str, line: str) -> Iterator[str]:
    """Add a line to a file, and yield it."""
    with Path(file).open("a") as lines:
        lines.write(f"{line}\n")
    yield line


@function()
async def stays(file: str, name: str, gate: str) -> AsyncIterator[str]:
    """Add `+ name` to a file, wait for this gate, add `- name`."""
    _note(file, f"+ {name}")
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240  # a file has no event
        await asyncio.sleep(0.01)
    _note(file, f"- {name}")
    yield name


def _note(file: str, line: str) -> None:
    with Path(file).open("a") as lines:
        lines.write(f"{line}\n")
