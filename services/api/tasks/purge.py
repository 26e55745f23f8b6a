"""Purge a task at the request of its owner, or of an admin: nothing of it stays in Redis."""

from typing import Final

from plugins import keys, scripts
from plugins.limits import Ticket
from services.api.identity.caller import Caller
from services.api.redis_client import run_script
from services.api.tasks.cancel import Cancels
from services.api.tasks.ending import leave

PURGE: Final = scripts.read("purge.lua", __file__)


async def purge_task(cancels: Cancels, task_id: str, caller: Caller) -> None:
    """Cancel the task if it has not ended, so that its readers and its worker are told; then remove all of it.

    Raises:
        ProblemDetailsException: 404, there is no such task, or this caller may not have it.
    """
    task, _ = await cancels.cancel(task_id, caller)
    # A function that still cleans up keeps its place at its limit; its worker releases it.
    if task.limit_key is not None and not task.lease_until:
        await leave(cancels.redis, cancels.limiter, task)
    names = [
        *[keys.metadata(task_id), keys.log(task_id), keys.task_input(task_id)],
        *[keys.OPEN, keys.by_owner(task.owner), keys.open_by_owner(task.owner)],
        *[keys.parked(task.function), keys.parked_by_owner(task.owner, task.function), keys.QUEUE],
        *([task.reservation] if task.reservation else []),
    ]
    # The message of a task without a limit names no attempt: 0.
    tickets = {str(Ticket(task_id, attempt)) for attempt in (0, task.attempt, task.attempt + 1)}
    await run_script(cancels.redis, PURGE, names, [task_id, *sorted(tickets)])
