"""Lines of the log: any text and any value makes one line of JSON, or readable lines for a person."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any, Final

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from services.api import logs as api_logs
from services.worker import logs as worker_logs

SERVICES: Final = [api_logs, worker_logs]

# Some characters end a line for some readers, move a terminal's cursor, or cannot be encoded.
TEXTS: Final = st.text(
    st.one_of(st.characters(), st.sampled_from("\n\r\x1b\x85\u2028\u202e\ud800\x00[{\"'")), max_size=40
)

CYCLE: Final[list[Any]] = []
CYCLE.append(CYCLE)
ODD: Final = [
    float("nan"),
    float("inf"),
    {(1, 2): 3},
    object(),
    CYCLE,
    b"\xff",
    {1: {2: [{3}]}},
    None,
    Exception("x\ny"),
]


def logged(logs: ModuleType, line_format: str, event: str, **fields: Any) -> str:
    """All that is written for this event, and for an exception with this text."""
    with redirect_stdout(io.StringIO()) as output:
        logs.configure(line_format)
        structlog.get_logger().info(event, **fields)
        try:
            raise ValueError(event)
        except ValueError:
            structlog.get_logger().exception("failed")
    return output.getvalue()


@pytest.mark.parametrize("logs", SERVICES)
@given(event=TEXTS, field=TEXTS)
def test_any_text_as_json(logs: ModuleType, event: str, field: str) -> None:
    """Two lines of ASCII, and the text as it was."""
    output = logged(logs, "json", event, field=field)
    said, failed = [json.loads(line) for line in output.removesuffix("\n").split("\n")]
    assert (said["event"], said["field"], said["level"]) == (event, field, "info")
    assert failed["exception"].startswith("Traceback (most recent call last):\n")
    assert output.isascii()


@pytest.mark.parametrize("logs", SERVICES)
@given(event=TEXTS, field=TEXTS)
def test_any_text_for_a_person(logs: ModuleType, event: str, field: str) -> None:
    """Two lines that begin like lines of the log; others are indented. All characters can be seen."""
    lines = logged(logs, "console", event, field=field).removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    own = [line for line in lines if not line.startswith("    ")]
    assert len(own) == 2
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[\w+ *\] ", line) for line in own)


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("line_format", ["json", "console"])
@pytest.mark.parametrize("logs", SERVICES)
def test_any_value(logs: ModuleType, line_format: str, value: Any) -> None:
    """A logger raises nothing for any value of a function's author; and JSON is JSON, without NaN."""
    output = logged(logs, line_format, "said", value=value)
    assert "said" in output
    if line_format == "json":
        for line in output.splitlines():
            json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("service", ["api", "worker"])
def test_auto(service: str) -> None:
    """Lines for a person in a terminal, and JSON elsewhere."""
    code = (
        f"import structlog; from services.{service} import logs; logs.configure('auto');"
        "structlog.get_logger().info('said')"
    )
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True)
        assert b"[info     ] said" in os.read(ours, 1_024)
    finally:
        os.close(ours)
        os.close(theirs)
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    assert json.loads(piped)["event"] == "said"
