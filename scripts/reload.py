"""The worker of `make run`, renewed whenever a file of functions changes: `python -m scripts.reload COMMAND…`.

The worker that was there takes nothing more and lets run what it has; a new one takes what comes. So a stream is never
cut by an edit, and goes on with the code that it began with.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

from watchfiles import PythonFilter, watch

from scripts import groups
from scripts.groups import guard, tell

ROOT: Final = Path(__file__).resolve().parent.parent

# Milliseconds between looks at whether the worker is still there.
LOOK_MS: Final = 500

# Seconds that workers have to end: fewer than what started this gives it.
END_S: Final = groups.END_S - 1


def main(command: list[str]) -> int:
    """Run until told to stop (0), or until the worker ends by itself (its code)."""
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # Taskiq's manager of each worker inherits this: it is the worker that SIGQUIT ends, and the manager with it.
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    with guard() as guarded:
        workers = [start(command)]  # the last one takes tasks, the others leave
        try:
            guarded([workers[0].pid])
            for changes in watch(
                *folders(),
                watch_filter=PythonFilter(),
                stop_event=stopping,
                rust_timeout=LOOK_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                if (code := workers[-1].poll()) is not None:
                    return code or 1
                workers = [each for each in workers if is_there(each)]
                if changes:
                    print("changed:", ", ".join(sorted({Path(path).name for _, path in changes})), flush=True)
                    tell(workers[-1].pid, signal.SIGTERM)
                    workers.append(start(command))
                guarded(worker.pid for worker in workers)
        finally:
            end(workers)
    return 0


def folders() -> list[Path]:
    """Where functions are; those of `FUNCTIONS_PATH` that there are."""
    named = [ROOT / folder for folder in os.environ.get("FUNCTIONS_PATH", "functions").split(os.pathsep) if folder]
    return [folder for folder in named if folder.is_dir()] or [ROOT / "functions"]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """A worker, in a group of its own: told with its manager, which would pass the word on only within a second."""
    return subprocess.Popen(command, process_group=0)  # noqa: S603  # what the Procfile says


def is_there(worker: subprocess.Popen[bytes]) -> bool:
    """Whether anything is left of it: its manager may be gone before it."""
    worker.poll()
    try:
        os.killpg(worker.pid, 0)
    except (ProcessLookupError, PermissionError):  # the latter is macOS's word for one that is about to go
        return False
    return True


def end(workers: list[subprocess.Popen[bytes]]) -> None:
    """End them, in a bounded time: nothing that runs is waited for, but its clean-up."""
    for worker in workers:
        tell(worker.pid, signal.SIGTERM)
        tell(worker.pid, signal.SIGQUIT)
    over = time.monotonic() + END_S
    while any(is_there(worker) for worker in workers) and time.monotonic() < over:
        time.sleep(0.05)
    for worker in workers:
        tell(worker.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
