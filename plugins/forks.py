"""A process that a function forks ends where the function's code ends: it must not go on as a second worker."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def end_forks() -> Iterator[None]:
    """A context for the code of a function. A process that the code forks exits where it leaves the context."""
    pid = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != pid:
            exit_fork(error)
        raise
    if os.getpid() != pid:
        exit_fork()


def exit_fork(error: BaseException | None = None) -> None:
    """Exit this process at once, as Python would after this exception, but without any clean-up of the worker's."""
    code = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = error.code or 0
    elif isinstance(error, SystemExit):
        print(error.code, file=sys.stderr)
        code = 1
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
