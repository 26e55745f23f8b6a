"""Batched look-ups of tasks: requests made during a round trip share the next one.

Ten thousand readers of a stream may reconnect at once, and most of them request the same task: each round trip reads it
once. Every answer is read after its request. Callers of different rights share round trips, and never an answer.
"""

import asyncio
from itertools import islice
from typing import Final

from redis.asyncio import Redis

from plugins import keys
from services.api.http.problems import problem
from services.api.identity.caller import Caller
from services.api.tasks.task import RawTask, Task, Wanted, fetch_wanted, task_of

# Tasks per round trip. More would block the loop, and Redis, for long.
MAX_BATCH_SIZE: Final = 200


class TaskLoader:
    """Loads tasks by their ids."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: dict[Wanted, asyncio.Future[RawTask]] = {}
        self._fetching: asyncio.Task[None] | None = None

    async def load(self, task_id: str, caller: Caller) -> Task:
        """Return the task of this id, if this caller may have it.

        Raises:
            ProblemDetailsException: 404, there is none, or it may not; without asking Redis if the id is malformed.
            UnreadableError: it is not of the form in which this product writes it. Other callers are not told.
        """
        asks = keys.TASK_ID.fullmatch(task_id) and caller.task in ("", task_id)
        raw = await self._raw(Wanted(task_id, caller.bound_to)) if asks else None
        if (task := task_of(task_id, raw)) is None:
            raise problem(404, "unknown-task", "Unknown task", "There is no such task. Tasks are kept for a day.")
        return task

    async def _raw(self, wanted: Wanted) -> RawTask:
        future = self._waiting.get(wanted)
        if future is None:
            future = self._waiting[wanted] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_retrieve_error)
            if self._fetching is None:
                self._fetching = asyncio.create_task(self._fetch())
        return await asyncio.shield(future)  # other requests may await the same one

    async def _fetch(self) -> None:
        try:
            while self._waiting:
                asked = list(islice(self._waiting, MAX_BATCH_SIZE))
                batch = [self._waiting.pop(wanted) for wanted in asked]
                try:
                    raw_tasks = await fetch_wanted(self._redis, asked)
                except Exception as error:  # noqa: BLE001  # every waiting request gets it, and knows what to make of it
                    # Those made meanwhile, too: no request queues behind others for a Redis that is silent.
                    batch += self._waiting.values()
                    self._waiting.clear()
                    for future in batch:
                        future.set_exception(error)
                else:
                    for future, raw in zip(batch, raw_tasks, strict=True):
                        future.set_result(raw)
        finally:
            self._fetching = None


def _retrieve_error(future: asyncio.Future[RawTask]) -> None:
    # Every request that has awaited it may have been cancelled. Then asyncio would log an error that was never
    # retrieved.
    future.exception()
