"""The worker: `taskiq worker services.worker.app:broker`."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState

from plugins import append, keys
from services.worker import announce, cancel, lease, logs, registry
from services.worker import claim as claiming
from services.worker.broker import PATIENT, Queue
from services.worker.produce import failed
from services.worker.run import Run
from services.worker.settings import Settings

# Seconds that functions have, at shutdown, to clean up, and that their ends have to be written. Together less than
# Taskiq's --shutdown-timeout of 5.
CLEAN_UP_S: Final = 3
WRITE_S: Final = 1

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
            asyncio.create_task(supervised(name, chore))
            for name, chore in {
                "leases": lambda: lease.keep(self.redis, renew, self.running, settings.lease_s, settings.renew_s),
                "announcing": lambda: announce.keep_announcing(self.redis, self.declarations, settings.renew_s),
                "cancels": lambda: cancel.listen(self.redis, self.running),
            }.items()
        ]

    async def run(self, task_id: str, context: Context) -> None:
        """Claim a task, acknowledge its message, and run it to its end."""
        claim = await claiming.claim(self.claim, task_id, self.name, settings.lease_s)
        # The lease owns the task from here on; or another has it, and the message has nothing left to say.
        try:
            await context.ack()
        except RedisError as error:  # it comes again, and is dropped at the claim
            logger.warning("message not acknowledged", task_id=task_id, error=str(error))
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
            for run in list(self.running.values()):
                run.leave()
        if self._performing:
            await asyncio.wait(self._performing, timeout=WRITE_S)
        for chore in self._chores:
            chore.cancel()
        await self.redis.aclose()


async def supervised(name: str, chore: Callable[[], Awaitable[None]]) -> None:
    """Run a chore that never ends, and run it again should it end all the same."""
    while True:
        try:
            await chore()
        # It catches what it expects; this is for the fault that nobody thought of. Without its leases a worker would
        # lose all its tasks.
        except Exception:
            logger.exception("chore died, starting it again", chore=name)
        await asyncio.sleep(1)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def arrive(state: TaskiqState) -> None:
    """Once per worker process, in its loop."""
    worker = state.worker = Worker()
    # Before the first task is read: what is listed can be run, and what can be run is listed.
    await announce.announce_at_last(worker.redis, worker.declarations)
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
