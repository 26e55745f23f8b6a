"""The machine: which processor a process gets, and what all of it is called in the report.

With two processors, the readers get one of their own, and the server that is measured the other. Redis and the
publisher run where there is room.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.support.processes import Process

SERVER: Final = "0"
READERS: Final = "1"


def pinned(processor: str, command: Sequence[str]) -> list[str]:
    """The command, kept on this processor where the machine has two and `taskset`."""
    if (os.cpu_count() or 1) < 2 or shutil.which("taskset") is None:
        return list(command)
    return ["taskset", "-c", processor, *command]


def start(stack: AsyncExitStack, command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
    """Start a process that ends with the stack."""
    process = Process(command, env, fresh=True)  # as it runs in life
    stack.callback(process.kill)
    return process


def python(*arguments: str) -> list[str]:
    """This interpreter with these arguments."""
    return [sys.executable, *arguments]


def packages(*names: str) -> str:
    """Versions of installed packages, in a line."""
    return ", ".join(f"{name} {version(name)}" for name in names)


def description() -> str:
    """The processor, memory and system of this machine."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    processor = found.group(1) if found else platform.processor()
    return (
        f"{os.cpu_count()} × {processor}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def memory_of(pid: int) -> int:
    """Bytes of memory that a process has for itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s*(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) * 1024


def seconds_of(pid: int) -> float:
    """Processor seconds that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
