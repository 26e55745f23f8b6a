"""The queue: Taskiq's Redis stream broker, with what it needs to lose nothing and keep nothing.

What differs from `RedisStreamBroker` as it comes (taskiq-redis 1.2.4):

- an acknowledged message is deleted too, so that an idle queue is empty (upstream it grows for ever);
- as many messages are read as there are free slots, so that a worker never holds what another could run;
- messages that a dead worker had read but not claimed are taken over on a quiet system too (upstream only after
  another message has arrived), and never while their task runs: the claim has acknowledged it by then;
- the claim acknowledges, nothing else does: a message whose claim fails stays pending and comes again;
- a group that vanished with Redis' data is declared again, from the start of the stream;
- a consumer that leaves hands back at once what it had read and not run, and is deleted.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.typing import KeyT, StreamIdT
from taskiq import AckableMessage, TaskiqMessage, TaskiqMiddleware
from taskiq_redis import RedisStreamBroker

from plugins import keys
from plugins.function import NAME
from plugins.gate import Ticket
from services.worker.formatter import StrictFormatter
from services.worker.patience import PAUSE_S, passes
from services.worker.slots import Slots, granted
from services.worker.trips import Command, Trips

# An outage of Redis is waited out: 120 tries, up to 1 s apart.
PATIENT: Final = Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 120)

# Messages to look at when leaving: those that were read and not claimed yet, hardly more than there are slots.
PENDING: Final = 1_000

# Seconds for leaving the group at shutdown.
LEAVE_S: Final = 1

# The labels of a message: which attempt of its task a gate has let in, the task's function, and since when (µs) it has
# been held, if it was.
ATTEMPT: Final = "attempt"
FUNCTION: Final = "function"
HELD: Final = "held"

# An id that no task has: ids are 32 characters.
NOBODY: Final = ""

logger = structlog.get_logger()

Message = tuple[bytes, dict[bytes, bytes]]


def is_id(argument: object) -> bool:
    """Whether this may be the id of a task."""
    return isinstance(argument, str) and keys.TASK_ID.fullmatch(argument) is not None


def admitted(message: TaskiqMessage) -> int:
    """The attempt that the task's gate has let in, as its message says; 0 where it says nothing of the kind."""
    return _number(message, ATTEMPT, 2**31)


def function_of(message: TaskiqMessage) -> str:
    """The function of the task, as its message says; empty where it says nothing of the kind."""
    function = message.labels.get(FUNCTION)
    return function if isinstance(function, str) and NAME.fullmatch(function) else ""


def held_since(message: TaskiqMessage) -> int:
    """When (µs) it was first held, as its message says; 0 where it says nothing of the kind."""
    return _number(message, HELD, 2**53)


def _number(message: TaskiqMessage, label: str, end: int) -> int:
    number = message.labels.get(label)
    return number if type(number) is int and 0 < number < end else 0


def message(ticket: Ticket, function: str, since: int = 0) -> Command:
    """The command that puts a ticket of this function on the queue, as the api does; one that was held since then."""
    said = TaskiqMessage(
        task_id=uuid4().hex,
        task_name=keys.RUN,
        labels={ATTEMPT: ticket.attempt, FUNCTION: function, HELD: since},
        args=[ticket.task_id],
        kwargs={},
    )
    return ("XADD", keys.QUEUE, "*", "data", said.model_dump_json().encode())


class AcknowledgedByHand(TaskiqMiddleware):
    """Whatever the sender or the command line say: the task itself acknowledges its message."""

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Called with every message before Taskiq decides when to acknowledge it."""
        # Nor does anybody else say when to time out or to try again: that is the function's policy.
        message.labels = {
            "ack_type": "manual",
            ATTEMPT: admitted(message),
            FUNCTION: function_of(message),
            HELD: held_since(message),
        }
        if message.kwargs or len(message.args) != 1 or not is_id(message.args[0]):
            # Taskiq would fail before the task could acknowledge it, or Redis' client before the claim could drop it,
            # and it would come again for ever. What nobody has submitted is dropped at the claim.
            logger.error("message dropped: it is not from the api", message=message.task_id)
            message.args, message.kwargs = [NOBODY], {}
        return message


class Queue(RedisStreamBroker):
    """The worker's end of `keys.QUEUE`."""

    def __init__(self, url: str, abandoned_s: float, takeover_s: float) -> None:
        self._takeover_s = takeover_s
        super().__init__(
            url,
            queue_name=keys.QUEUE,
            consumer_group_name=keys.QUEUE_GROUP,
            consumer_id="0",  # a group declared late still sees what was queued before it
            xread_block=int(takeover_s * 1000),  # it looks at what dead workers left between two reads
            xread_count=None,  # as many as there are slots
            # To claim a message is the first thing that a worker does with it.
            idle_timeout=int(abandoned_s * 1000),
            retry=PATIENT,
            retry_on_error=[ReadOnlyError, RuntimeError],  # as in app.py
            socket_timeout=10,  # seconds; a blocking read needs more than its block
            client_name="tailrace-queue",
        )
        # The URL may have said otherwise, and what is read here are lists.
        self.connection_pool.connection_kwargs["protocol"] = 2
        self.add_middlewares(AcknowledgedByHand())
        self.leaving = False
        self.slots: Final = Slots(granted())
        self.formatter = StrictFormatter(self, self.slots)
        # What acknowledges goes with all else that the worker's tasks ask for. Whoever runs them gives it.
        self.trips: Trips | None = None
        self._takeover_due = 0.0
        self._takeover_from: bytes | str = "0-0"

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Messages, one by one, for ever: what dead workers left, then what is new.

        Until `leaving` is set: Taskiq cancels the read when the worker stops, but in Python 3.11 `asyncio.wait_for`,
        with which redis-py reads, may swallow that.
        """
        async with Redis(connection_pool=self.connection_pool) as redis:
            while not self.leaving:
                try:
                    messages = await self._take_over(redis) or await self._read(redis)
                except RedisError as error:
                    await self._mend(error)
                    continue
                for message_id, fields in messages:
                    if b"data" not in fields:
                        logger.error("message dropped: it is not from the api", message=message_id.decode())
                        await self._ack_generator(message_id, self.queue_name)()
                        continue
                    self.slots.take()
                    yield AckableMessage(data=fields[b"data"], ack=self._ack_generator(message_id, self.queue_name))

    async def _mend(self, error: RedisError) -> None:
        """Do what makes the next read work; what only time mends is waited for."""
        if str(error).startswith("NOGROUP"):
            await self._declare_consumer_group()
        elif passes(error):
            logger.warning("queue not read", error=str(error))
            await asyncio.sleep(PAUSE_S)
        else:
            raise error

    async def shutdown(self) -> None:
        """Let the functions end first; then leave the group. That is only tidy, so Redis may refuse it."""
        await super().shutdown()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._leave()
        except (RedisError, TimeoutError) as error:
            logger.warning("consumer not removed", error=str(error))
        finally:
            await self.connection_pool.disconnect()

    async def _leave(self) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis:
            place = (self.queue_name, self.consumer_group_name)
            pending = await redis.xpending_range(*place, "-", "+", PENDING, consumername=self.consumer_name)
            if not pending:
                await redis.xgroup_delconsumer(*place, self.consumer_name)
                return
            # Messages that were read in the last moment. As old as abandoned ones, they are taken over at once; with
            # their consumer they would be deleted.
            ids: list[Any] = [message["message_id"] for message in pending]
            await redis.xclaim(*place, self.consumer_name, 0, ids, idle=self.idle_timeout, justid=True)

    async def _declare_consumer_group(self) -> None:
        async with Redis(connection_pool=self.connection_pool) as redis:
            try:
                await redis.xgroup_create(self.queue_name, self.consumer_group_name, id=self.consumer_id, mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def _read(self, redis: Redis) -> list[Message]:
        streams: dict[KeyT, StreamIdT] = {self.queue_name: ">"}
        reply: Any = await redis.xreadgroup(
            self.consumer_group_name, self.consumer_name, streams, count=self.slots.free, block=self.block
        )
        return [message for _, messages in reply or () for message in messages]

    async def _take_over(self, redis: Redis) -> list[Message]:
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

    def _ack_generator(self, id: StreamIdT, queue_name: str) -> Callable[[], Awaitable[None]]:  # noqa: A002  # upstream's name
        async def ack() -> None:
            assert self.trips is not None, "the worker is there before the first message"
            await self.trips.go([("XACK", queue_name, self.consumer_group_name, id), ("XDEL", queue_name, id)])

        return ack
