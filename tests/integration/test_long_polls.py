"""Long-polls: they end when their clients leave, and nothing of them stays behind."""

import asyncio
from collections.abc import Callable
from typing import Final

import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.processes import api_process
from tests.support.settings import NO_HEARTBEAT
from tests.support.sockets import Client, accepted
from tests.support.tasks import note
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

# Longer than any test waits for what must happen.
WAIT_S: Final = DEADLINE_S + 15


class Poll(Client):
    """A connection that waits for the next entry of a log."""

    def __init__(self, url: str, task_id: str) -> None:
        super().__init__(url, task_id, target=f"/tasks/{task_id}/chunks?wait={WAIT_S}")


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
async def test_clients_that_leave(redis_url: str, redis: Redis, leave: Callable[[Client], None]) -> None:
    """No subscription outlives its long-poll: all fall at once, long before the wait would be over."""
    task_ids = [await note(redis, "count", to=1) for _ in range(100)]
    channels = [keys.channel(task_id) for task_id in task_ids]

    async def subscribed() -> int:
        return sum(count for _, count in await redis.pubsub_numsub(*channels))

    with api_process(redis_url, **NO_HEARTBEAT) as api:

        async def are(many: int) -> bool:
            return await subscribed() == many

        polls = [Poll(api.url, task_id) for task_id in task_ids for _ in range(3)]
        await until(lambda: are(100), "every log is waited for", details=subscribed)
        for poll in polls[1:]:
            leave(poll)
        await until(lambda: are(1), "one long-poll has a subscription", details=subscribed)
        assert accepted(api.process.pid, api.url) == 1
        polls[0].close()
        await until(lambda: are(0), "no subscription is left", details=subscribed)
        assert "Traceback" not in api.process.output


async def test_a_client_that_stays_gets_the_entry(redis_url: str, redis: Redis) -> None:
    """Others that wait for the same entry, and leave, take nothing from it."""
    task_id = await note(redis, "count", to=1)
    with api_process(redis_url, **NO_HEARTBEAT) as api:
        polls = [Poll(api.url, task_id) for _ in range(20)]

        async def heard() -> bool:
            return bool((await redis.pubsub_numsub(keys.channel(task_id)))[0][1])

        await until(heard)
        for poll in polls[1:]:
            poll.reset()
        await until(lambda: accepted(api.process.pid, api.url) == 1)
        line = b'{"event":"chunk","attempt":1,"seq":0,"at":1,"data":"x"}'
        await redis.rpush(keys.log(task_id), line)
        await redis.expire(keys.log(task_id), 60)
        await redis.publish(keys.channel(task_id), line)
        async with asyncio.timeout(DEADLINE_S):
            await polls[0].until(b'"ended":false}')
        assert line in polls[0].received
        polls[0].close()
