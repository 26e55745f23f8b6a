"""The context of a function that no worker runs."""

from typing import Final

import structlog

from plugins import Context

CONTEXT: Final = Context(task_id="0" * 32, attempt=1, yielded=[], logger=structlog.get_logger())
