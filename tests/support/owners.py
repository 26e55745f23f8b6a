"""Tasks of several owners, which are started and ended by the API's own code, past HTTP."""

from typing import Any, Final

from redis.asyncio import Redis

from services.api.catalog import Catalog
from services.api.http.quotas import Quota
from services.api.identity.caller import USUAL, Caller
from services.api.tasks.cancel import Cancels
from services.api.tasks.limits import Limiter
from services.api.tasks.loader import TaskLoader
from services.api.tasks.memory import Memory
from services.api.tasks.open_tasks import OpenTasks
from services.api.tasks.submission import NewTask, Submissions

ALICE: Final = "a" * 32
BOB: Final = "b" * 32

# Seconds until recovery looks at a task that was started here.
UNCLAIMED_S: Final = 60

QUOTAS: Final = OpenTasks(*[Quota(1_000, "none")] * 3)


async def start_as(redis: Redis, owner: str, function: str, **given: Any) -> str:
    """Start a function for this owner; the task's id."""
    limiter = Limiter(redis, UNCLAIMED_S)
    submissions = Submissions(redis, Catalog(redis), limiter, UNCLAIMED_S, 0, Memory(redis, 1), QUOTAS)
    task = await submissions.start(caller_of(owner), NewTask(function, given), None, (), resumes=False)
    limiter.close()
    return task.task_id


def cancels_of(redis: Redis) -> Cancels:
    """Cancels tasks of any owner."""
    return Cancels(redis, TaskLoader(redis), Limiter(redis, UNCLAIMED_S), 60)


def caller_of(owner: str) -> Caller:
    """A caller that has the tasks of this owner."""
    return Caller(owner=owner, scopes=USUAL)
