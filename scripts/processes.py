"""Processes beside each other: what they print is shown line by line, under their names, and they end together.

Each has a session of its own: Ctrl-C in a terminal reaches only the process that started them, which tells them.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from scripts.groups import END_S, tell

# Seconds that the last lines of a process may take: what it started may hold its output open for ever.
LAST_LINES_S: Final = 1

# The name before lines that no process printed; and the colours of the processes' own names, in a terminal.
SYSTEM: Final = "system"
COLOURS: Final = (36, 33, 32, 35)


class End(Exception):  # noqa: N818  # to be told to stop is no error
    """Why all ends: in words if something is wrong, in none if it was told to."""


class Processes:
    """Those of a Procfile, and all that is shown. `ended` hears when one ends, or when nothing reads what is shown."""

    def __init__(self, commands: Mapping[str, str], ended: SimpleQueue[End]) -> None:
        self._commands, self._ended = commands, ended
        self._width = max(map(len, [SYSTEM, *commands]))
        self._colours = dict(zip(commands, COLOURS, strict=False)) if os.isatty(1) else {}
        self._watchers: dict[int, Thread] = {}
        self._writing = Lock()

    def start(self, env: Mapping[str, str], guarded: Callable[[Iterable[int]], None]) -> None:
        """Start them all."""
        for name, command in self._commands.items():
            process = subprocess.Popen(  # noqa: S603  # what the Procfile says
                ["/bin/sh", "-c", command], env=env, start_new_session=True, encoding="utf-8", errors="replace",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self._watchers[process.pid] = Thread(target=self._watch, args=(name, process), daemon=True)
            self._watchers[process.pid].start()
            guarded(self._watchers)

    def _watch(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.say(f"{name} started (pid={process.pid})")
        output = Thread(target=self._show, args=(name, process), daemon=True)
        output.start()
        code = process.wait()
        output.join(LAST_LINES_S)
        self.say(f"{name} stopped (rc={code})")
        self._ended.put(End(f"{name} ended by itself; its last lines say why."))

    def _show(self, name: str, process: "subprocess.Popen[str]") -> None:
        for line in process.stdout or ():
            self.say(line.rstrip("\n"), name)

    def say(self, line: str, name: str = SYSTEM) -> None:
        """Show a line with the time, under this name."""
        prefix = f"{time.strftime('%H:%M:%S')} {name:<{self._width}} | "
        if colour := self._colours.get(name):
            prefix = f"\033[0;{colour}m{prefix}\033[0m"
        self.write(f"{prefix}{line}\n")

    def write(self, text: str) -> None:
        """Show this. Where nothing reads it any more, that is a reason to stop, and none to break off.

        Past Python's buffer: a thread that is held up here does not hold up the end.
        """
        try:
            with self._writing:
                os.write(1, text.encode())
        except OSError:
            self._ended.put(End())

    def stop(self) -> None:
        """End them in a bounded time."""
        over = time.monotonic() + END_S
        for number in (signal.SIGTERM, signal.SIGKILL):
            for leader in self._watchers:
                tell(leader, number)
            for watcher in self._watchers.values():
                watcher.join(max(LAST_LINES_S, over - time.monotonic()))
