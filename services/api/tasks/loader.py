"""Looking tasks up for whoever asks: what is asked while one round trip is under way goes with the next, all in one.

Ten thousand readers of a stream may come back at once, and most of them ask for the same task: each round trip asks for
it once. No answer is older than its question.
"""

import asyncio
from itertools import islice
from typing import Final

from redis.asyncio import Redis

from plugins import keys
from services.api.http.problems import problem
from services.api.tasks.task import Answers, Task, ask, task_of

# Tasks per round trip. More would hold the loop, and Redis, for long.
MOST: Final = 200


class LookUp:
    """Answers with the task of an id."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wanted: dict[str, asyncio.Future[Answers]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, task_id: str, owner: str) -> Task:
        """The task of this id, if it is this owner's.

        Raises:
            ProblemDetailsException: 404, before anything reaches Redis where the id is not of the right form.
            redis.exceptions.RedisError: Redis does not answer.
        """
        task = task_of(task_id, await self._answers(task_id)) if keys.TASK_ID.fullmatch(task_id) else None
        if task is None or task.owner != owner:
            raise problem(404, "unknown-task", "Unknown task", "There is no such task. Tasks are kept for a day.")
        return task

    async def _answers(self, task_id: str) -> Answers:
        answers = self._wanted.get(task_id)
        if answers is None:
            answers = self._wanted[task_id] = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answers)  # others may wait for the same

    async def _ask(self) -> None:
        try:
            while self._wanted:
                ids = list(islice(self._wanted, MOST))
                wanted = [self._wanted.pop(task_id) for task_id in ids]
                try:
                    came = await ask(self._redis, ids)
                except Exception as error:  # noqa: BLE001  # those who wait must hear of it, and know what to make of it
                    # Those who asked meanwhile, too: nobody queues behind others for a Redis that is silent.
                    wanted += self._wanted.values()
                    self._wanted.clear()
                    for answers in wanted:
                        answers.set_exception(error)
                else:
                    for answers, each in zip(wanted, came, strict=True):
                        answers.set_result(each)
        finally:
            self._asking = None
