"""Exceptions of authors' code, in words: all of them, or those that are for readers."""

import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from plugins import Failure
from services.worker.registry.sources import ImportTookTooLongError

# Exceptions of a group that are told, and characters in all: every client that lists functions gets them.
MAX_LEAVES: Final = 10
MAX_REASON: Final = 2_000

# Causes that are followed from an exception without words.
MAX_CAUSES: Final = 5


class Told(NamedTuple):
    """The words for an exception. `reference` is in the line of the worker's log that has the rest; None if the words
    are all.
    """

    words: str
    reference: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        """The reference, for a line of the log and for the end of a task."""
        return {"reference": self.reference} if self.reference else {}


class Reasons(NamedTuple):
    """Puts exceptions into words. With `always`, their texts leave the worker; else only those of a `Failure` do."""

    always: bool = False

    def told(self, error: BaseException) -> Told:
        """Return an exception's type and text, or its type and a reference if its text is not for readers; of a group,
        those of the exceptions in it, at any depth.
        """
        if self.always or all(map(_for_readers, _leaves(error))):
            return Told(_joined(error, _described))
        return Told(_joined(error, lambda leaf: _for_readers(leaf) or _named(leaf)), secrets.token_hex(4))


# The texts of declared failures alone.
DECLARED: Final = Reasons()


def reason_of(error: BaseException, told: Told, source: Path | None = None) -> str:
    """Return an exception, and the line that it comes from: the last one in `source`, a file or a folder.

    Without `source`, or if the exception did not come through it, it is the last line of all.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_named(error)}: {error.msg} ({place_of(error.filename, error.lineno)})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if source and Path(frame.filename).resolve().is_relative_to(source.resolve())]
    place = f" ({place_of((own or frames)[-1].filename, (own or frames)[-1].lineno)})" if frames else ""
    more = f"; the worker's log has more, with the reference {told.reference}" if told.reference else ""
    return told.words[:MAX_REASON] + place + more


def place_of(file: str, line: int | None) -> str:
    """Return a place in a file by the file's name and its folder's: clients learn nothing of where they are."""
    return f"{'/'.join(Path(file).parts[-2:])}:{line}"


def _joined(error: BaseException, word: Callable[[BaseException], str]) -> str:
    leaves = _leaves(error)
    told = "; ".join(map(word, islice(leaves, MAX_LEAVES)))
    more = sum(1 for _ in leaves)
    return f"{told}; and {more} more" if more else told


def _for_readers(error: BaseException) -> str:
    """Return the text of an exception that is meant for readers; nothing for any other."""
    with suppress(BaseException):  # `__str__` is its author's code
        return str(error).strip() if isinstance(error, Failure | ImportTookTooLongError) else ""
    return ""


def _leaves(error: BaseException) -> Iterator[BaseException]:
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting += reversed(error.exceptions)
        else:
            yield error


def _described(error: BaseException) -> str:
    """Return one exception in words. One without words has those of its cause."""
    if text := _for_readers(error):
        return text
    told = [_named(error)]
    for _ in range(MAX_CAUSES):
        if text := _text(error):
            return f"{', caused by '.join(told)}: {text}"
        cause = error.__cause__ if error.__cause__ is not None else error.__context__
        if cause is None:
            break
        error = cause
        told.append(_named(error))
    return ", caused by ".join(told)


def _named(error: BaseException) -> str:
    return type(error).__name__


def _text(error: BaseException) -> str:
    """Return an exception's message and notes; the notes alone if the message cannot be read."""
    texts = []
    # `__str__` is its author's code, and so may the notes be.
    with suppress(BaseException):
        texts.append(str(error).strip())
    with suppress(BaseException):
        texts += [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    return "\n".join(filter(None, texts))


def printable(text: str) -> str:
    """Return the text with escapes for what JSON cannot represent: lone surrogates, as in names of files."""
    return text.encode(errors="backslashreplace").decode()
