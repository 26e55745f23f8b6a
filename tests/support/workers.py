"""Workers, seen from outside: which one has a task, and what befalls its processes."""

import os
import signal

from redis.asyncio import Redis

from plugins import keys
from tests.support.processes import Process


async def holder(redis: Redis, task_id: str, workers: list[Process]) -> Process:
    """The worker that runs a task."""
    name = await redis.hget(keys.metadata(task_id), "worker")
    assert isinstance(name, bytes)
    group = os.getpgid(int(name.decode().rpartition(":")[2]))
    return next(worker for worker in workers if worker.pid == group)


def freeze(process: Process) -> None:
    """Stop it, and all that it has started, as a laptop does that is closed."""
    os.killpg(process.pid, signal.SIGSTOP)


def thaw(process: Process) -> None:
    """Let it go on as if nothing had been."""
    os.killpg(process.pid, signal.SIGCONT)
