"""How this process logs: one line per event, and tracebacks without the values of variables, which may be secrets."""

import sys
from io import TextIOWrapper

import structlog


def configure() -> None:
    """To standard output, with a time."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a lone surrogate must not turn a log line into an error
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
