"""The worker: `taskiq worker services.worker.app:broker`."""

import asyncio
import os
import socket
from typing import Annotated, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState

from plugins import append, keys
from services.worker import announce, cancel, lease, logs, registry
from services.worker import claim as claiming
from services.worker.broker import PATIENT, Queue
from services.worker.produce import failed
from services.worker.run import Run
from services.worker.settings import Settings

# Seconds a function has, at shutdown, to clean up after it was stopped. Below Taskiq's --shutdown-timeout of 5.
CLEAN_UP_S: Final = 4

logs.configure()
logger = structlog.get_logger()
settings: Final = Settings()
broker: Final = Queue(settings.redis_url)


class Worker:
    """What one worker process holds while it runs."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.plugins = registry.load(settings.function_folders)
        self.running: dict[str, Run] = {}
        self._performing: set[asyncio.Task[None]] = set()
        # An outage of Redis is waited out, for a connection too: chunks wait in their logs' bounded buffers.
        pool = BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=16,
            timeout=None,
            retry=PATIENT,
            socket_timeout=10,
            client_name="tailrace-worker",
        )
        self.redis = Redis.from_pool(pool)
        self.append = self.redis.register_script(append.SCRIPT)
        self.claim = self.redis.register_script(claiming.SCRIPT)
        renew = self.redis.register_script(lease.SCRIPT)
        self.declarations = [plugin.declaration for plugin in self.plugins.values()]
        self._chores = [
            asyncio.create_task(lease.keep(self.redis, renew, self.running, settings.lease_s, settings.renew_s)),
            asyncio.create_task(announce.keep_announcing(self.redis, self.declarations, settings.renew_s)),
            asyncio.create_task(cancel.listen(self.redis, self.running)),
        ]

    async def run(self, task_id: str, context: Context) -> None:
        """Claim a task, acknowledge its message, and run it to its end."""
        claim = await claiming.claim(self.claim, task_id, self.name, settings.lease_s)
        # The lease owns the task from here on; or another has it, and the message has nothing left to say.
        await context.ack()
        if claim is None:
            logger.info("nothing to run", task_id=task_id)
            return
        run = self.running[task_id] = Run(self.redis, self.append, claim)
        performing = asyncio.create_task(run.perform(self.plugins.get(claim.function)))
        self._performing.add(performing)
        try:
            await performing
        finally:
            self._performing.discard(performing)
            del self.running[task_id]

    async def leave(self) -> None:
        """Stop what still runs, write its end, and close the connections."""
        for run in list(self.running.values()):
            run.stop(failed("interrupted", "the worker was shut down"))
        if self._performing:
            await asyncio.wait(self._performing, timeout=CLEAN_UP_S)
        for chore in self._chores:
            chore.cancel()
        await self.redis.aclose()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def arrive(state: TaskiqState) -> None:
    """Once per worker process, in its loop."""
    worker = state.worker = Worker()
    # Before the first task is read: what is listed can be run, and what can be run is listed.
    await announce.announce(worker.redis, worker.declarations)
    logger.info("functions loaded", names=sorted(state.worker.plugins))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def leave(state: TaskiqState) -> None:
    """Once per worker process, after Taskiq has stopped waiting for what runs."""
    await state.worker.leave()


@broker.task(task_name=keys.RUN)
async def run(task_id: str, context: Annotated[Context, TaskiqDepends()]) -> None:
    """The one Taskiq task: run the task of this id."""
    # Taskiq resolves contexts from a dictionary that concurrent tasks share: a mix-up would acknowledge another's.
    assert context.message.args == [task_id]
    worker: Worker = broker.state.worker
    await worker.run(task_id, context)
