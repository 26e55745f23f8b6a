"""The worker: `taskiq worker services.worker.app:broker`. What Taskiq needs is here, what it starts in `process.py`."""

from typing import Any, Final

import structlog
from taskiq import TaskiqEvents, TaskiqState

from plugins import keys
from services.worker import logs
from services.worker.process import WRITE_S, Worker
from services.worker.queue.broker import Queue
from services.worker.redis_client import eviction
from services.worker.settings import Settings
from services.worker.signals import leave_on_signal, stop_the_manager


def read_settings() -> Settings:
    """The settings of this process's environment.

    Raises:
        SystemExit: one of them is wrong. Taskiq's manager, which would start a worker again and again, ends, too.
    """
    try:
        return Settings.read()
    except SystemExit:
        stop_the_manager()
        raise


logs.configure()
logger = structlog.get_logger()
settings: Final = read_settings()
broker: Final = Queue(settings.redis_url, settings.abandoned_s, settings.takeover_s)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def arrive(state: TaskiqState) -> None:
    """Once per worker process, in its loop."""
    # A thread of a function's, a blocked loop, a start that waits for Redis do not let go.
    rest_s = settings.clean_up_s + WRITE_S + settings.exit_s
    # First: to import functions may take long. What is told meanwhile is done after that, when there is a worker.
    leave_on_signal(lambda: state.worker.drain(), lambda: state.worker.end(), settings.drain_s, rest_s)
    worker = state.worker = Worker(settings, broker)
    await worker.arrive()
    logger.info("functions loaded", names=sorted(worker.plugins))
    await eviction.warn(worker.redis)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def leave(state: TaskiqState) -> None:
    """Once per worker process, after Taskiq has stopped waiting for what runs."""
    await state.worker.leave()


@broker.task(task_name=keys.RUN)
async def run(delivery: Any) -> None:  # a Delivery: what is annotated with more than Any Taskiq would convert
    """The one Taskiq task: run the task of this delivery's message."""
    worker: Worker = broker.state.worker
    with delivery:
        await worker.run(delivery)
