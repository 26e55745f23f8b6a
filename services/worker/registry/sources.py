"""Sources of functions: the files of a folder, and the entry points of installed packages.

An import runs its author's code: it may raise anything, and it may not return. An error is recorded for its source, and
the others load.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from plugins.failure import Failure
from plugins.function import Policy, policy
from services.worker.registry.modules import module_of

# The group under which a package names its functions: `name = "package.module:function"`.
GROUP: Final = "tailrace.functions"


# Seconds between two interruptions of an import that has taken too long.
AGAIN_S: Final = 0.1

# A function and its policy.
Found = tuple[Callable[..., Any], Policy]


class ImportTookTooLongError(BaseException):
    """An import did not return in time. It is no `Exception`, because the author's code may catch those."""


class Source(msgspec.Struct, frozen=True):
    """A source of functions. `name` says where it is; `load` imports it, and may raise anything.

    `file` is None for a package's function.
    """

    name: str
    load: Callable[[], list[Found]]
    file: Path | None = None


def sources(folders: Iterable[Path]) -> Iterator[Source]:
    """Return all sources: first the files of the folders, by name; then the entry points of packages."""
    for folder in folders:
        if not folder.is_dir():
            yield Source(_named(folder), partial(_no_folder, folder))
        for file in sorted(folder.glob("[!_]*.py")):
            yield Source(f"{_named(folder)}/{file.name}", partial(_marked_in, file), file)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
        yield Source(f"{point.name} = {point.value}{package}", partial(_entry_point, point))


def _named(folder: Path) -> str:
    """Return a folder as `FUNCTIONS_PATH` has it; of an absolute path the last part, because clients see it."""
    return folder.name if folder.is_absolute() else str(folder)


def _no_folder(folder: Path) -> list[Found]:
    raise Failure(f"there is no folder {_named(folder)}: FUNCTIONS_PATH names the folders of functions")


def _marked_in(file: Path) -> list[Found]:
    """The functions that have a policy and are this file's own, not imported from another, once each."""
    module = module_of(file)
    values = {id(value): value for value in vars(module).values()}.values()
    return [
        (value, attached)
        for value in values
        if (attached := policy(value)) is not None and value.__module__ == module.__name__
    ]


def _entry_point(point: EntryPoint) -> list[Found]:
    # A plain function has the name of its entry point; the policy of `@function` takes precedence.
    function = point.load()
    return [(function, policy(function) or Policy(name=point.name))]


@contextlib.contextmanager
def import_timeout(seconds: float) -> Iterator[None]:
    """Interrupt the imports in this context after this time.

    It uses a signal, which interrupts a loop and a system call alike, but not an extension that never returns to
    Python. Signals are for the main thread: in another one there is no time-out.

    Raises:
        ImportTookTooLongError: the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_alarm(_: int, __: FrameType | None) -> None:
        raise ImportTookTooLongError(f"its import did not come back within {seconds:g} s (TAILRACE_IMPORT_S)")

    previous = signal.signal(signal.SIGALRM, on_alarm)
    # Again and again: the code may catch the first one, as a loop does that waits for a database.
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    finally:
        while signal.getsignal(signal.SIGALRM) is on_alarm:
            with contextlib.suppress(ImportTookTooLongError):
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)
