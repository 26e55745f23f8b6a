"""Numbers that a run of the tests can be given, so that what was drawn by lot can be repeated."""

import os
import secrets
from typing import Final

import pytest

# Seeds that are drawn are below this.
END: Final = 1 << 30


def seed(variable: str, default: int | None = None) -> int:
    """The seed in this environment variable, or the default, or one that is drawn.

    Raises:
        pytest.UsageError: the variable holds no such number.
    """
    given = os.environ.get(variable, "")
    if given and not given.isdecimal():
        raise pytest.UsageError(f"{variable} must be a seed that a test has printed, a whole number, not {given!r}")
    if given:
        return int(given)
    return secrets.randbelow(END) if default is None else default


def seconds(variable: str, default: float) -> float:
    """The seconds in this environment variable.

    Raises:
        pytest.UsageError: the variable holds no such number.
    """
    given = os.environ.get(variable) or str(default)
    try:
        number = float(given)
    except ValueError:
        number = 0
    if not 0 < number <= 86_400:
        raise pytest.UsageError(f"{variable} must be seconds, more than 0 and at most 86400, not {given!r}")
    return number
