"""A function that puts a text wherever text gets into the log."""

import logging
import sys
import threading
import warnings

from plugins import Context, function


@function()
def forges(text: str, context: Context) -> None:
    """Log the text in every way, and fail with it."""
    context.logger.info(text, field=text, odd={(1, text): float("nan")})
    context.logger.error("with a stack", stack_info=False, **{text: 1})
    logging.getLogger(text.replace(".", "")).warning("%s", text)
    warnings.warn(text, stacklevel=1)
    thread = threading.Thread(target=_raise, args=[text])
    thread.start()
    thread.join()
    try:
        _raise(text)
    except ValueError:
        context.logger.exception(text)
    sys.stdout.flush()
    _raise(text)


def _raise(text: str) -> None:
    raise ValueError(text)
