"""The queue: Taskiq's Redis stream broker, with what it needs to lose nothing and keep nothing.

What differs from `RedisStreamBroker` as it comes (taskiq-redis 1.2.4):

- an acknowledged message is deleted too, so that an idle queue is empty (upstream it grows for ever);
- as many messages are read as there are free slots, so that a worker never keeps a message that another could run;
- messages that a dead worker had read but not claimed are taken over on a quiet system too (upstream only after
  another message has arrived), and never while their task runs: the claim has acknowledged it by then;
- the claim acknowledges, nothing else does: a message whose claim fails stays pending and is delivered again;
- a group that vanished with Redis' data is declared again, from the start of the stream;
- a consumer that leaves hands back at once what it had read and not run, and is deleted.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from redis.typing import KeyT, StreamIdT
from taskiq_redis import RedisStreamBroker

from plugins import keys, scripts
from plugins.message import FIELD, NotAMessageError, decode
from plugins.transient import is_transient
from services.worker.queue.messages import ACKNOWLEDGE, Delivery, DeliveryFormatter
from services.worker.queue.slots import Slots
from services.worker.redis_client.pool import OPTIONS
from services.worker.redis_client.retry import RETRY_PAUSE_S

LEAVE: Final = scripts.read("leave.lua", __file__)

# Seconds to leave the group at shutdown.
LEAVE_S: Final = 1

logger = structlog.get_logger()

Entry = tuple[bytes, dict[bytes, bytes]]


class Queue(RedisStreamBroker):
    """The worker's end of `keys.QUEUE`."""

    def __init__(self, url: str, abandoned_s: float, takeover_s: float, slots: Slots) -> None:
        self._takeover_s = takeover_s
        super().__init__(
            url,
            queue_name=keys.QUEUE,
            consumer_group_name=keys.QUEUE_GROUP,
            consumer_id="0",  # a group declared late still sees what was queued before it
            xread_block=int(takeover_s * 1000),  # between two reads it takes over the messages of dead workers
            xread_count=None,  # as many as there are slots
            # A worker claims a message before it does anything else with it.
            idle_timeout=int(abandoned_s * 1000),
            client_name="tailrace-queue",
            **OPTIONS,
        )
        # The URL may say otherwise, but this file reads lists.
        self.connection_pool.connection_kwargs["protocol"] = 2
        self.slots: Final = slots
        self.formatter = DeliveryFormatter(self)
        self._stopping = False
        self._reader: asyncio.Task[Any] | None = None  # while it reads
        self._takeover_due = 0.0
        self._takeover_from: bytes | str = "0-0"

    def stop_reading(self) -> None:
        """End `listen` after the read in flight.

        Taskiq cancels the read when the worker stops, but in Python 3.11 `asyncio.wait_for`, with which redis-py reads,
        may swallow that.
        """
        self._stopping = True

    async def listen(self) -> AsyncGenerator[Delivery, None]:  # type: ignore[override]  # Taskiq takes any
        """Yield deliveries, one by one, until `stop_reading`: first messages of dead workers, then new ones.

        Taskiq cannot acknowledge them: the claim does that, and nothing else.
        """
        async with Redis(connection_pool=self.connection_pool) as redis:
            while not self._stopping:
                self._reader = asyncio.current_task()
                try:
                    entries = await self._take_over(redis) or await self._read(redis)
                except RedisError as error:
                    await self._recover(error)
                    continue
                finally:
                    self._reader = None
                for entry_id, fields in entries:
                    try:
                        message = decode(fields.get(FIELD, b""))
                    except NotAMessageError as error:
                        await self._drop(redis, entry_id, str(error))
                    else:
                        self.slots.take()
                        yield Delivery(entry_id.decode(), message)

    async def _drop(self, redis: Redis, entry_id: bytes, why: str) -> None:
        logger.error("invalid message dropped", message=entry_id.decode(), error=why)
        try:
            await redis.eval(ACKNOWLEDGE, 1, self.queue_name, self.consumer_group_name, entry_id)
        except RedisError as error:  # it is delivered again, and dropped then
            logger.warning("message not dropped", message=entry_id.decode(), error=str(error))

    async def _recover(self, error: RedisError) -> None:
        """Make the next read possible: declare the group if it is missing, wait if the error is transient.

        Raises:
            redis.exceptions.RedisError: the error is neither.
        """
        if str(error).startswith("NOGROUP"):
            await self._declare_consumer_group()
        elif is_transient(error):
            logger.warning("queue not read", error=str(error))
            await asyncio.sleep(RETRY_PAUSE_S)
        else:
            raise error

    async def shutdown(self) -> None:
        """Call the shutdown hooks first, then leave the group. That is only tidy, so Redis may refuse it."""
        await super().shutdown()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._leave_group()
        except (RedisError, TimeoutError) as error:
            logger.warning("consumer not removed", error=str(error))
        finally:
            await self.connection_pool.disconnect()

    async def _leave_group(self) -> None:
        # However the worker ends, nothing may be read for this consumer after it has left.
        self.stop_reading()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        async with Redis(connection_pool=self.connection_pool) as redis:
            group = (self.consumer_group_name, self.consumer_name, str(self.idle_timeout))
            await redis.eval(LEAVE, 1, self.queue_name, *group)

    async def _declare_consumer_group(self) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis:
            try:
                await redis.xgroup_create(self.queue_name, self.consumer_group_name, id=self.consumer_id, mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def _read(self, redis: Redis) -> list[Entry]:
        streams: dict[KeyT, StreamIdT] = {self.queue_name: ">"}
        reply: Any = await redis.xreadgroup(
            self.consumer_group_name, self.consumer_name, streams, count=self.slots.free, block=self.block
        )
        return [entry for _, entries in reply or () for entry in entries]

    async def _take_over(self, redis: Redis) -> list[Entry]:
        if time.monotonic() < self._takeover_due:
            return []
        self._takeover_from, messages, *_ = await redis.xautoclaim(
            self.queue_name,
            self.consumer_group_name,
            self.consumer_name,
            self.idle_timeout,
            start_id=self._takeover_from,
            count=self.slots.free,
        )
        if not messages:
            self._takeover_due = time.monotonic() + self._takeover_s
        return list(messages)
