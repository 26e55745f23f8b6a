"""How this process logs: one JSON object per line, or lines for a person in a terminal.

Each text that is logged stays within its line, so that no client can forge a line. Tracebacks are without the values
of variables, which may be secrets.
"""

import json
import logging
import sys
import threading
from io import TextIOWrapper
from typing import Any, Final, Literal

import structlog

Format = Literal["auto", "json", "console"]

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
    """Log what Taskiq and other libraries log by `logging`, Python's warnings, and what threads of functions raise, as
    lines of this process.
    """
    logging.captureWarnings(True)
    logging.getLogger().handlers = [Forwarder()]
    threading.excepthook = _on_thread
    sys.unraisablehook = _on_unraisable


def _on_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        logger.error("thread crashed", exc_info=_exc_info(args))


def _on_unraisable(args: Any) -> None:
    logger.error("exception ignored", exc_info=_exc_info(args))


def _exc_info(args: Any) -> Any:
    return args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback


class Forwarder(logging.Handler):
    """Passes records on to structlog, with the name of their logger."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record. A record that cannot be formatted is reported on standard error, as `logging` does it."""
        try:
            level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
            fields = {"exc_info": record.exc_info} if record.exc_info else {}
            logger.log(level, record.getMessage(), logger=record.name, **fields)
        except Exception:  # noqa: BLE001  # the record's arguments are of any type
            self.handleError(record)


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
