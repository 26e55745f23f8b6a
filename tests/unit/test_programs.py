"""A test whose program is missing is skipped with a reason, and fails where all programs must be there."""

import sys

import pytest

from tests.support.programs import program


def test_a_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer sees what is missing, and the run passes."""
    monkeypatch.delenv("TEST_PROGRAMS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        program("no-such-program")


def test_a_program_that_is_missing_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is left out there."""
    monkeypatch.setenv("TEST_PROGRAMS", "all")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        program("no-such-program")


def test_a_program_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path."""
    assert program(sys.executable) == sys.executable
