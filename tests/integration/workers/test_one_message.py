"""A queued task has one message: on the queue, or as its parked ticket."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from plugins import enqueue, keys, metadata
from plugins.message import Message
from services.api.redis_client import run_script
from services.worker.attempt.commands import Commands
from services.worker.queue.parked import Parking
from services.worker.queue.slots import Slots
from services.worker.queue.tickets import unpark
from tests.support.tasks import note

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.fixture
async def redis(own_database: str) -> AsyncIterator[Redis]:
    """A client of a database that no process looks after."""
    async with Redis.from_url(own_database) as redis:
        yield redis


@pytest.fixture
async def message(redis: Redis) -> Message:
    """The message of a new task of `f`."""
    return Message(await note(redis, "f"), "f")


async def enqueued(redis: Redis, message: Message) -> int:
    """Enqueue it. Return how many messages the queue has then."""
    await run_script(redis, enqueue.SCRIPT, **enqueue.arguments(message))
    return int(await redis.xlen(keys.QUEUE))


async def test_a_message_that_waits_is_not_added_again(redis: Redis, message: Message) -> None:
    """However often a process enqueues a task, the queue does not grow."""
    assert [await enqueued(redis, message) for _ in range(3)] == [1, 1, 1]


async def test_a_message_that_was_lost_is_added_again(redis: Redis, message: Message) -> None:
    """Whether the queue lost this message alone, or all that it had."""
    assert await enqueued(redis, message) == 1
    assert await redis.xdel(keys.QUEUE, await redis.hget(keys.metadata(message.task_id), metadata.MESSAGE) or "") == 1
    assert await enqueued(redis, message) == 1
    await redis.delete(keys.QUEUE)
    assert await enqueued(redis, message) == 1


async def test_a_task_without_a_record_is_enqueued(redis: Redis, message: Message) -> None:
    """An API of an older release created it: nothing says where its message is."""
    assert not await redis.hexists(keys.metadata(message.task_id), metadata.MESSAGE)
    assert await enqueued(redis, message) == 1


@pytest.mark.parametrize("status", ["running", "done", "failed", "cancelled"])
async def test_a_task_that_does_not_wait_gets_no_message(redis: Redis, message: Message, status: str) -> None:
    """No worker has to read a message only to drop it."""
    await redis.hset(keys.metadata(message.task_id), metadata.STATUS, status)
    assert await enqueued(redis, message) == 0


async def test_a_claim_makes_room_for_the_message_of_the_next_attempt(redis: Redis, message: Message) -> None:
    """A worker dies before it acknowledges the message: the next attempt does not wait until that one is taken over."""
    assert await enqueued(redis, message) == 1
    claim = await Commands(redis, {}).claims.take(message.task_id, "w", 15)
    assert claim is not None
    await redis.hset(keys.metadata(message.task_id), metadata.STATUS, "queued")
    assert await enqueued(redis, message) == 2


async def test_a_parked_ticket_stands_for_its_message(redis: Redis, message: Message) -> None:
    """A paused function's tasks are not put back on the queue, from where workers would only park them again."""
    parking = Parking(Commands(redis, {}).batcher, ["f"], Slots(1))
    await parking.park(message)
    assert await enqueued(redis, message) == 0


async def test_two_workers_that_unpark_the_same_ticket(redis: Redis, message: Message) -> None:
    """The resumed function's task gets one message, and recovery adds no other."""
    batcher = Commands(redis, {}).batcher
    await Parking(batcher, ["f"], Slots(1)).park(message)
    for _ in range(2):  # both have read the ticket
        await batcher.execute([unpark(message, keys.parked("f"))])
    assert (await redis.xlen(keys.QUEUE), await redis.zcard(keys.parked("f"))) == (1, 0)
    assert await enqueued(redis, message) == 1
