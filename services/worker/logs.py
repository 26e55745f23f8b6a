"""How this process logs: one line per event, and tracebacks without the values of variables, which may be secrets."""

import structlog


def configure() -> None:
    """To standard output, with a time."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
