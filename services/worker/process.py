"""A worker process: it starts, runs tasks, drains and stops."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from plugins import keys
from plugins.limits import limits_of
from plugins.message import Message
from services.worker.attempt.attempt import Attempt
from services.worker.attempt.claim import Claim
from services.worker.attempt.commands import Commands
from services.worker.attempt.lease import LeaseRenewer
from services.worker.attempt.produce import failed
from services.worker.queue.broker import Queue
from services.worker.queue.messages import Delivery, acknowledgement, with_owner
from services.worker.queue.parked import Parking
from services.worker.queue.parked_by_owner import OwnerParking
from services.worker.queue.shares import Shares
from services.worker.redis_client.retry import RETRY_PAUSE_S, retry_transient
from services.worker.registry import announce
from services.worker.registry.lifespan import LifespanError, Resource
from services.worker.registry.reasons import reason_of
from services.worker.registry.registry import Registry
from services.worker.settings import Settings

# Seconds to write the ends of functions when the process stops, after their clean-up.
WRITE_S: Final = 1

INTERRUPTED: Final = failed("interrupted", "the worker was shut down", retryable=True)

logger = structlog.get_logger()


class Worker:
    """One worker process: what it has open, and the tasks that it runs. It closes the client when it stops."""

    def __init__(self, settings: Settings, queue: Queue, redis: Redis, registry: Registry) -> None:
        self._settings = settings
        self._queue = queue
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.redis = redis
        self.registry = registry
        self.plugins = registry.plugins
        self.running: dict[str, Attempt] = {}
        self.draining = False
        self._interrupted = False
        self._performing: set[asyncio.Task[None]] = set()
        limits = {
            name: limits_of(plugin.policy.concurrency, plugin.policy.rate) for name, plugin in self.plugins.items()
        }
        self.commands = Commands(self.redis, limits)
        self.shares = Shares(queue.slots.total, settings.owner_slots)
        self.parking = Parking(self.commands.batcher, self.plugins, queue.slots)
        self.owner_parking = OwnerParking(self.commands.batcher, self.plugins, queue.slots, self.shares)
        self.leases = LeaseRenewer(self.redis, settings.lease_s, settings.renew_s)
        self._background_tasks = [
            asyncio.create_task(supervised("leases", self.leases.run)),
            asyncio.create_task(supervised("subscriber", self._listen)),
        ]

    async def start(self) -> None:
        """Enter the lifespans, and announce the functions and what is broken: before the first message is read."""
        await asyncio.gather(*(self._enter(resource) for resource in self.registry.resources))
        await retry_transient("announce", lambda: announce.announce(self.redis, self.registry))
        await retry_transient("prune announcements", lambda: announce.prune(self.redis))
        await retry_transient("scan parked tasks", self.parking.scan)
        every_s = self._settings.renew_s
        keep_announcing = partial(announce.keep_announcing, self.redis, self.registry, every_s, lambda: self.draining)
        self._background_tasks += [
            asyncio.create_task(supervised("parking", lambda: self.parking.run(every_s))),
            asyncio.create_task(supervised("owner parking", lambda: self.owner_parking.run(every_s))),
            asyncio.create_task(supervised("announcements", keep_announcing)),
        ]

    async def _enter(self, resource: Resource) -> None:
        try:
            await resource.enter(self._settings.import_s)
        # It is its author's code: it may raise anything.
        except Exception as error:
            raised = error.__cause__ if isinstance(error, LifespanError) and error.__cause__ else error
            told = self.registry.reasons.told(raised)
            logger.exception("lifespan entry failed", module=resource.name, **told.fields)
            self.registry.drop(resource, reason_of(raised, told, resource.file))

    async def run(self, delivery: Delivery) -> None:
        """Claim the task of a message, acknowledge the message, and run the task to its end."""
        if self.draining:
            return  # the message stays pending, and is handed back when the consumer leaves the group
        performing = asyncio.create_task(self._run(delivery))
        self._performing.add(performing)
        performing.add_done_callback(self._performing.discard)
        await performing

    async def _run(self, delivery: Delivery) -> None:
        message = delivery.message
        if message.function and (reason := self.parking.reason(message.function)):
            await self._park(delivery, lambda: self.parking.park(message), reason)
            return
        if not message.owner and self.shares.bind:  # of an older release, or its limit has admitted the task
            message = await self._with_owner(message)
        if not self.owner_parking.take(message):
            await self._park(delivery, lambda: self.owner_parking.park(message), "owner has its share of the slots")
            return
        try:
            await self._claim(delivery)
        finally:
            self.owner_parking.release(message)

    async def _with_owner(self, message: Message) -> Message:
        batcher = self.commands.batcher
        return await retry_transient("look up owner", lambda: with_owner(batcher, message), task_id=message.task_id)

    async def _park(self, delivery: Delivery, park: Callable[[], Awaitable[None]], reason: str) -> None:
        message = delivery.message
        await retry_transient("park", park, task_id=message.task_id)
        await self._acknowledge(delivery)
        logger.info("task parked", task_id=message.task_id, function=message.function, reason=reason)

    async def _claim(self, delivery: Delivery) -> None:
        message, task_id = delivery.message, delivery.message.task_id
        plugin = self.plugins.get(message.function)
        version = plugin.declaration.version if plugin else ""
        claim = await self.commands.claims.take(task_id, self.name, self._settings.lease_s, message.attempt, version)
        # From here on the lease owns the task; or another worker has it, and the message is of no more use.
        acknowledging = asyncio.create_task(self._acknowledge(delivery))
        try:
            if claim is not None:
                await self._perform(claim)
            else:
                logger.info("claim refused, message dropped", task_id=task_id)
            await acknowledging
        finally:
            acknowledging.cancel()  # has an effect only if this task is cancelled: then the message is delivered again

    async def _acknowledge(self, delivery: Delivery) -> None:
        """Take the message off the queue."""
        try:
            await self.commands.batcher.execute([acknowledgement(delivery.entry_id)])
        except RedisError as error:  # it is delivered again, and dropped at the claim
            logger.warning("message not acknowledged", task_id=delivery.message.task_id, error=str(error))

    async def _perform(self, claim: Claim) -> None:
        plugin = self.plugins.get(claim.function)
        attempt = Attempt(self.commands, claim, plugin, self._settings.grace_s, self.registry.reasons)
        lease = self.leases.add(claim, lambda: attempt.stop(None))
        self.running[claim.task_id] = attempt
        if claim.cancelled:
            attempt.stop(None)
        elif self._interrupted:
            attempt.stop(INTERRUPTED)
        try:
            await attempt.perform(lease)
        finally:
            self.leases.remove(lease)
            # The next attempt may have started here while this one cleaned up.
            if self.running.get(claim.task_id) is attempt:
                del self.running[claim.task_id]

    async def _listen(self) -> None:
        """Listen to the channels for all workers. Messages may be lost: what they say is learned in another way, later.

        Raises:
            redis.exceptions.RedisError: the subscription is lost.
        """
        listeners = {
            keys.CANCEL: self._on_cancel,
            keys.FUNCTIONS_CHANGED: self._on_functions_changed,
            keys.OWNERS_CHANGED: self.owner_parking.on_owners_changed,
        }
        async with self.redis.pubsub() as pubsub:
            await pubsub.subscribe(*listeners)
            async for message in pubsub.listen():
                # A confirmed subscription is an empty message.
                payload = message["data"].decode(errors="replace") if message["type"] == "message" else ""
                listeners[message["channel"].decode()](payload)

    def _on_functions_changed(self, name: str) -> None:
        self.parking.on_functions_changed(name)
        self.owner_parking.on_functions_changed(name)

    def _on_cancel(self, task_id: str) -> None:
        """Stop the task, if it runs here. Its log has its end: the API appends that before it publishes the cancel."""
        self.commands.claims.cancel(task_id)
        if attempt := self.running.get(task_id):
            logger.info("task cancelled", task_id=task_id)
            attempt.stop(None)

    async def drain(self) -> None:
        """Start nothing more, and wait for running functions; interrupt those that exceed `TAILRACE_DRAIN_S`."""
        if not self.draining:
            self._stop_consuming()
            logger.info("draining", tasks=len(self.running), timeout_s=self._settings.drain_s)
            await self._wait(self._settings.drain_s)
            await self._interrupt()

    async def stop_now(self) -> None:
        """Start nothing more, and interrupt what runs."""
        self._stop_consuming()
        await self._interrupt()

    def _stop_consuming(self) -> None:
        # It also stops announcing its functions, which may be out of date by the time it has stopped; and unparking
        # tasks, which it would not take from the queue.
        self.draining = True
        self._queue.stop_reading()
        self.parking.stop()
        self.owner_parking.stop()

    async def stop(self) -> None:
        """Interrupt what still runs, exit the lifespans, and close the connections."""
        self.draining = True
        await self._interrupt()
        for task in self._background_tasks:
            task.cancel()
        await asyncio.gather(*(self._exit(resource) for resource in self.registry.resources))
        self.commands.limiter.close()
        self.commands.batcher.stop()
        await self.redis.aclose()

    async def _exit(self, resource: Resource) -> None:
        try:
            await resource.exit()
        except Exception:
            logger.exception("lifespan exit failed", module=resource.name)

    async def _interrupt(self) -> None:
        """Stop what still runs: functions clean up, tasks are released or end, in a bounded time."""
        self._interrupted = True  # a claim may be pending
        for attempt in self.running.values():
            attempt.stop(INTERRUPTED)
        await self._wait(self._settings.clean_up_s)
        for attempt in self.running.values():
            attempt.abandon()
        await self._wait(WRITE_S)
        for performing in self._performing:  # Redis is unreachable; leases expire, and recovery takes over
            performing.cancel()

    async def _wait(self, seconds: float) -> None:
        if self._performing:
            await asyncio.wait(self._performing, timeout=seconds)


async def supervised(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a background task that never returns. If it fails, log that and restart it."""
    while True:
        try:
            await run()
        except RedisError as error:  # the client has retried failed connections already
            logger.warning("background task failed, restarting", background_task=name, error=str(error))
        # A fault in its code: without its leases a worker would lose all its tasks.
        except Exception:
            logger.exception("background task crashed, restarting", background_task=name)
        await asyncio.sleep(RETRY_PAUSE_S)
