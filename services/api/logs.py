"""How this process logs: one JSON object per line, or lines for a person in a terminal.

Each text that is logged stays within its line, so that no client can forge a line. Tracebacks are without the values
of variables, which may be secrets.
"""

import json
import logging
import sys
from io import TextIOWrapper
from typing import Any, Final, Literal

import structlog

Format = Literal["auto", "json", "console"]

# Uvicorn's logger of requests, which `--no-access-log` silences.
ACCESS: Final = "uvicorn.access"

logger = structlog.get_logger()

_console: Final = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)


def configure(line_format: Format) -> None:
    """Log to standard output, with a time. `auto` is `console` in a terminal, and `json` elsewhere."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a lone surrogate must not turn a log line into an error
    console = sys.stdout.isatty() if line_format == "auto" else line_format == "console"
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_for_a_person] if console else [structlog.processors.format_exc_info, _as_json]),
        ],
        logger_factory=structlog.WriteLoggerFactory(),
    )


def forward_libraries() -> None:
    """Log what uvicorn and other libraries log by `logging`, and Python's warnings, as lines of this process."""
    logging.captureWarnings(True)
    logging.getLogger().handlers = [Forwarder()]
    for name in ("uvicorn", ACCESS):
        library = logging.getLogger(name)
        if library.handlers:  # otherwise an option of uvicorn's silences it
            library.handlers = [Forwarder()]


class Forwarder(logging.Handler):
    """Passes records on to structlog, with the name of their logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record. A record that cannot be formatted is reported on standard error, as `logging` does it."""
        try:
            if record.name == ACCESS:
                _log_request(record.args)
                return
            level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
            # uvicorn calls the logger of its messages, of any level, uvicorn.error.
            fields = {"exc_info": record.exc_info} if record.exc_info else {}
            logger.log(level, record.getMessage(), logger=record.name.removesuffix(".error"), **fields)
        except Exception:  # noqa: BLE001  # the record's arguments are of any type
            self.handleError(record)


def _log_request(arguments: Any) -> None:
    """Log a request without the query of its target: cursors are of no use there, and a secret may be in it."""
    client, method, target, _, status = arguments
    logger.info("request", client=client, method=method, path=target.partition("?")[0], status=status)


def _for_a_person(of: Any, method: str, fields: Any) -> str:
    """Return a line as structlog lays it out. Further lines are indented, so they do not look like lines of the log."""
    first, *more = str(_console(of, method, fields)).split("\n")
    return "\n".join([_escaped(first), *(f"    {_escaped(line)}" for line in more)])


def _escaped(line: str) -> str:
    """Return the line without characters that move a terminal's cursor, end a line, or change its direction."""
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


def _as_json(_: Any, __: str, fields: Any) -> str:
    """Return the fields as a line of JSON. Values that JSON does not have are told by their repr."""
    try:
        return json.dumps(fields, default=repr, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # odd keys, NaN, cycles
        return json.dumps({name: value if isinstance(value, str) else repr(value) for name, value in fields.items()})
