"""The worker's command: `python -m services.worker`, with the options of `taskiq worker`."""

import sys
from queue import SimpleQueue
from typing import Any, Final

from taskiq.__main__ import main
from taskiq.cli.worker import process_manager

BROKER: Final = "services.worker.app:broker"


def queue_for_signals(_: int) -> SimpleQueue[Any]:
    """Return a queue to which the handler of a signal may put something while another one does.

    Taskiq's manager puts each signal that it gets into a queue of `multiprocessing`, and takes it out itself. If a
    second signal comes during the first `put`, its handler waits for ever for the lock that the first one holds.
    """
    return SimpleQueue()


def run() -> None:
    """Run Taskiq's command with our broker."""
    setattr(process_manager, "Queue", queue_for_signals)  # noqa: B010  # its own name for what it imports
    sys.argv[1:1] = ["worker", BROKER]
    main()


if __name__ == "__main__":
    run()
