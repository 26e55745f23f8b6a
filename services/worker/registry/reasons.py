"""Exceptions of authors' code, in words."""

import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

# Exceptions of a group that are told, and characters in all: every client that lists functions gets them.
MAX_LEAVES: Final = 10
MAX_REASON: Final = 2_000

# Causes that are followed from an exception without words.
MAX_CAUSES: Final = 5


def described(error: BaseException) -> str:
    """Return an exception's type, message and notes; of a group, those of the exceptions in it, at any depth."""
    leaves = _leaves(error)
    told = "; ".join(map(_described, islice(leaves, MAX_LEAVES)))
    more = sum(1 for _ in leaves)
    return f"{told}; and {more} more" if more else told


def reason_of(error: BaseException, source: Path | None = None) -> str:
    """Return an exception, and the line that it comes from: the last one in `source`, a file or a folder.

    Without `source`, or if the exception did not come through it, it is the last line of all.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_named(error)}: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if source and Path(frame.filename).resolve().is_relative_to(source.resolve())]
    place = f" ({(own or frames)[-1].filename}:{(own or frames)[-1].lineno})" if frames else ""
    return described(error)[:MAX_REASON] + place


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
