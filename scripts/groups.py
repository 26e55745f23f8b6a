"""Groups of processes, by the id of the one that leads them: told something, and ended with what started them."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

# The signals by which a user or an operator stops a program.
STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

# Seconds that groups have to end before they are killed.
END_S: Final = 5

# Its input ends when the process that started it does, in whatever way. The last line counts.
GUARD: Final = f"while read -r line; do groups=$line; done; kill -TERM $groups; sleep {END_S}; kill -KILL $groups"


def tell(leader: int, number: int) -> None:
    """Signal the whole group, if there is anything left of it."""
    with suppress(ProcessLookupError, PermissionError):  # the latter is macOS's word for one that is about to go
        os.killpg(leader, number)


@contextmanager
def guard() -> Iterator[Callable[[Iterable[int]], None]]:
    """What to call with the groups that must not outlive this process, even where this process is killed."""
    command, no = ["sh", "-c", GUARD], subprocess.DEVNULL
    # Until it has a session of its own, a Ctrl-C reaches it, too. It inherits that these are blocked.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        process = subprocess.Popen(  # noqa: S603  # our own
            command, stdin=subprocess.PIPE, stdout=no, stderr=no, text=True, start_new_session=True
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with process:
        try:
            yield lambda leaders: print(*(-leader for leader in leaders), file=process.stdin, flush=True)
        finally:
            process.kill()
