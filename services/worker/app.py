"""The worker, as Taskiq runs it: Taskiq's hooks; the worker itself is in `process.py`."""

import asyncio
from typing import Any, Final

import structlog
from taskiq import TaskiqEvents, TaskiqState

from plugins import keys
from services.worker import logs
from services.worker.attempt.exits import survive_exits
from services.worker.process import WRITE_S, Worker
from services.worker.queue.broker import Queue
from services.worker.queue.slots import Slots, configured_slots
from services.worker.redis_client import admission, eviction
from services.worker.redis_client.admission import UnusableRedisError
from services.worker.redis_client.pool import connect
from services.worker.registry import registry
from services.worker.registry.reasons import Reasons
from services.worker.settings import Settings
from services.worker.signals import give_up, stop_manager, stop_on_signal


def read_settings() -> Settings:
    """Read the settings from this process's environment.

    Raises:
        SystemExit: one of them is wrong. Taskiq's manager is stopped, too: it would start a worker again and again.
    """
    try:
        return Settings.read()
    except SystemExit:
        stop_manager()
        raise


logger = structlog.get_logger()
settings: Final = read_settings()
logs.configure(settings.log_format)
logs.forward_libraries()
survive_exits(asyncio.get_event_loop())  # Taskiq's, which it sets before it imports this file
broker: Final = Queue(settings.redis_url, settings.abandoned_s, settings.takeover_s, Slots(configured_slots()))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state: TaskiqState) -> None:
    """Start the worker: called once per process, in its loop."""
    # A function's thread, a blocked loop, or a start that waits for Redis does not stop by itself.
    stop_s = settings.clean_up_s + WRITE_S + settings.exit_s
    # First, because the import of functions may take long. A signal that arrives meanwhile is handled after it, when
    # there is a worker.
    stop_on_signal(lambda: state.worker.drain(), lambda: state.worker.stop_now(), settings.drain_s, stop_s)
    functions = registry.load(settings.function_folders, settings.import_s, Reasons(settings.failure_text == "always"))
    worker = state.worker = Worker(settings, broker, connect(settings.redis_url), functions)
    try:
        await admission.check(settings.redis_url)
    except UnusableRedisError as error:
        logger.error("redis cannot be used", error=str(error))
        give_up()
    await worker.start()
    logger.info("functions loaded", names=sorted(worker.plugins))
    await eviction.warn(worker.redis)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    """Stop the worker: called once per process, after Taskiq has stopped waiting for what runs."""
    await state.worker.stop()


@broker.task(task_name=keys.RUN)
async def run(delivery: Any) -> None:  # a Delivery: Taskiq would convert a parameter with any other annotation
    """Run the task of this delivery's message. This is the one Taskiq task."""
    worker: Worker = broker.state.worker
    try:
        await worker.run(delivery)
    finally:
        broker.slots.release()
