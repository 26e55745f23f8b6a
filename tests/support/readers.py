"""Streams that are followed while other things happen."""

import asyncio
from contextlib import suppress

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import whole
from tests.support.waiting import DEADLINE_S, until


class Reader:
    """A stream that is followed while other things happen."""

    def __init__(self, client: httpx.AsyncClient, task_id: str) -> None:
        self.seen: list[ServerSentEvent] = []
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._read(client, task_id))

    async def _read(self, client: httpx.AsyncClient, task_id: str) -> None:
        async with aconnect_sse(client, "GET", f"/tasks/{task_id}/stream", timeout=DEADLINE_S) as source:
            with suppress(httpx.RemoteProtocolError):  # the API, or the log, is not there any more
                async for event in whole(source):
                    async with self._news:
                        self.seen.append(event)
                        self._news.notify_all()

    @property
    def open(self) -> bool:
        """Whether the response goes on."""
        return not self._task.done()

    async def until(self, many: int) -> None:
        """Wait for so many events more."""
        many += len(self.seen)
        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= many)

    async def until_end(self) -> list[ServerSentEvent]:
        """Wait for the end of the response; all that was seen."""
        done, _ = await asyncio.wait([self._task], timeout=DEADLINE_S)
        assert done, f"the response goes on and on after {self.seen[-3:]}"
        await self._task
        return self.seen


async def heard(redis: Redis, task_id: str) -> bool:
    """Whether any API listens to a task's channel."""
    return bool((await redis.pubsub_numsub(keys.channel(task_id)))[0][1])


async def unheard(redis: Redis, task_id: str) -> None:
    """Wait until no API listens to a task's channel any more."""

    async def silent() -> bool:
        return not await heard(redis, task_id)

    await until(silent, f"no subscription to {task_id} is left")
