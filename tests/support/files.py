"""Files by which a test and its functions speak: notes that functions leave, and gates that they wait for."""

import asyncio
from pathlib import Path

from tests.support.waiting import until


async def left(folder: Path, pattern: str, many: int = 1) -> None:
    """Wait until functions have left so many notes."""
    await until(lambda: len(notes(folder, pattern)) >= many, f"{many} of {folder / pattern}")


def notes(folder: Path, pattern: str) -> list[str]:
    """The notes that functions have left."""
    return sorted(path.name for path in folder.glob(pattern))


def open_gate(gate: Path) -> None:
    """Let the function go on that waits for this file."""
    gate.touch()


async def appeared(path: Path) -> None:
    """Wait until a function has left this file."""
    await until(lambda: asyncio.to_thread(path.exists), f"{path} is there")
