"""What one worker process does: it starts, runs the tasks of the messages that it is given, drains and stops."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog
from redis.exceptions import RedisError

from plugins import keys
from plugins.limits import limits_of
from services.worker.attempt.attempt import Run
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Access
from services.worker.attempt.lease import Keeper
from services.worker.attempt.produce import failed
from services.worker.queue.broker import Queue
from services.worker.queue.messages import Delivery, acknowledgement
from services.worker.queue.parked import Parking
from services.worker.redis_client.pool import connect
from services.worker.redis_client.retry import retry_transient
from services.worker.redis_client.subscriber import listen
from services.worker.registry import announce, registry
from services.worker.registry.lifespan import Resource
from services.worker.settings import Settings

# Seconds that the ends of functions have to be written, once the process is to end and they have cleaned up.
WRITE_S: Final = 1

INTERRUPTED: Final = failed("interrupted", "the worker was shut down", again=True)

logger = structlog.get_logger()


class Worker:
    """What one worker process holds while it runs."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self._settings = settings
        self._queue = queue
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.registry = registry.load(settings.function_folders, settings.import_s)
        self.plugins = self.registry.plugins
        self.running: dict[str, Run] = {}
        self.draining = False
        self._interrupted = False
        self._performing: set[asyncio.Task[None]] = set()
        self.redis = connect(settings.redis_url)
        limits = {name: limits_of(each.policy) for name, each in self.plugins.items()}
        self.access = Access(self.redis, limits)
        self.parking = Parking(self.access.batcher, self.plugins, queue.slots)
        self.keeper = Keeper(self.redis, settings.lease_s, settings.renew_s)
        self._chores = [
            asyncio.create_task(supervised(name, chore))
            for name, chore in {
                "leases": self.keeper.run,
                "hearing": lambda: listen(
                    self.redis,
                    {keys.CANCEL: self._cancelled, keys.FUNCTIONS_CHANGED: self.parking.on_functions_changed},
                ),
            }.items()
        ]

    async def arrive(self) -> None:
        """Make what functions need, and say what can be run, and what cannot: before the first task is read."""
        await asyncio.gather(*(self._enter(resource) for resource in self.registry.resources))
        await retry_transient("announcement", lambda: announce.announce(self.redis, self.registry))
        await retry_transient("forgetting old announcements", lambda: announce.forget(self.redis))
        await retry_transient("look at what is held", self.parking.scan)
        again = partial(
            announce.keep_announcing, self.redis, self.registry, self._settings.renew_s, lambda: self.draining
        )
        self._chores.append(asyncio.create_task(supervised("held", lambda: self.parking.run(self._settings.renew_s))))
        self._chores.append(asyncio.create_task(supervised("announcing", again)))

    async def _enter(self, resource: Resource) -> None:
        try:
            await resource.enter(self._settings.import_s)
        # It is its author's code: nothing is known of what it may raise.
        except Exception as error:
            logger.exception("lifespan failed", module=resource.name)
            self.registry.drop(resource, registry.in_words(error))

    async def run(self, delivery: Delivery) -> None:
        """Claim the task of a message, acknowledge the message, and run the task to its end."""
        if self.draining:
            return  # the message stays pending, and goes back when the queue is left
        performing = asyncio.create_task(self._run(delivery))
        self._performing.add(performing)
        performing.add_done_callback(self._performing.discard)
        await performing

    async def _run(self, delivery: Delivery) -> None:
        message, task_id, function = delivery.message, delivery.message.task_id, delivery.message.function
        if function and self.parking.must_park(function):
            await retry_transient("hold", lambda: self.parking.park(message), task_id=task_id)
            await self._acknowledge(delivery)
            logger.info("held", task_id=task_id, function=function)
            return
        plugin = self.plugins.get(function)
        version = plugin.declaration.version if plugin else ""
        claim = await self.access.claims.take(task_id, self.name, self._settings.lease_s, message.attempt, version)
        # The lease owns the task from here on; or another has it, and the message has nothing left to say.
        acknowledging = asyncio.create_task(self._acknowledge(delivery))
        try:
            if claim is not None:
                await self._perform(claim)
            else:
                logger.info("nothing to run", task_id=task_id)
            await acknowledging
        finally:
            acknowledging.cancel()  # has an effect only where this is cancelled: then the message comes again

    async def _acknowledge(self, delivery: Delivery) -> None:
        """Take the message off the queue."""
        try:
            await self.access.batcher.execute(acknowledgement(delivery))
        except RedisError as error:  # it comes again, and is dropped at the claim
            logger.warning("message not acknowledged", task_id=delivery.message.task_id, error=str(error))

    async def _perform(self, claim: Claim) -> None:
        run = Run(self.access, claim, self.plugins.get(claim.function), self._settings.grace_s)
        lease = self.keeper.hold(claim, lambda: run.stop(None))
        self.running[claim.task_id] = run
        if claim.cancelled:
            run.stop(None)
        elif self._interrupted:
            run.stop(INTERRUPTED)
        try:
            await run.perform(lease)
        finally:
            self.keeper.drop(lease)
            if self.running.get(claim.task_id) is run:  # the next attempt may have come here while this one cleaned up
                del self.running[claim.task_id]

    def _cancelled(self, task_id: str) -> None:
        """Stop it, if it runs here. Its log has its end already: the api appends that before it says so."""
        self.access.claims.cancel(task_id)
        if run := self.running.get(task_id):
            logger.info("cancelled", task_id=task_id)
            run.stop(None)

    async def drain(self) -> None:
        """Start nothing more, and let what runs go on for a grace; then end it."""
        if not self.draining:
            self._take_no_more()
            logger.info("draining", tasks=len(self.running), grace_s=self._settings.drain_s)
            await self._wait(self._settings.drain_s)
            await self._interrupt()

    async def end(self) -> None:
        """Start nothing more, and end what runs."""
        self._take_no_more()
        await self._interrupt()

    def _take_no_more(self) -> None:
        # Nor does it say what it has, which may be of yesterday by the time it leaves; nor put on the queue what it
        # would not take from there.
        self.draining = True
        self._queue.stop_reading()
        self.parking.stop()

    async def leave(self) -> None:
        """End what still runs, and close the connections."""
        self.draining = True
        await self._interrupt()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*(self._exit(resource) for resource in self.registry.resources))
        self.access.limiter.close()
        self.access.batcher.stop()
        await self.redis.aclose()

    async def _exit(self, resource: Resource) -> None:
        try:
            await resource.leave()
        except Exception:
            logger.exception("lifespan not left", module=resource.name)

    async def _interrupt(self) -> None:
        """Stop what still runs: its function cleans up, its task is handed back or ends, in a bounded time."""
        self._interrupted = True  # a claim may be under way
        for run in self.running.values():
            run.stop(INTERRUPTED)
        await self._wait(self._settings.clean_up_s)
        for run in self.running.values():
            run.leave()
        await self._wait(WRITE_S)
        for performing in self._performing:  # Redis is away; leases run out, and recovery takes over
            performing.cancel()

    async def _wait(self, seconds: float) -> None:
        if self._performing:
            await asyncio.wait(self._performing, timeout=seconds)


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
