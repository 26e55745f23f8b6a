"""Look-ups of tasks that several requests share."""

import asyncio
import gc
from typing import Any

import pytest
from redis.asyncio import Redis

from services.api.identity.caller import ANYONE
from services.api.tasks.loader import TaskLoader
from tests.support.processes import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def a_request_that_is_cancelled() -> None:
    """Let one ask for a task, and be gone before Redis fails to answer."""
    others = asyncio.all_tasks()
    async with Redis(port=free_port()) as redis:
        request = asyncio.create_task(TaskLoader(redis).load("0" * 32, ANYONE))
        await until(lambda: asyncio.all_tasks() - others - {request}, "a look-up is under way")
        request.cancel()
        await until(lambda: not asyncio.all_tasks() - others, "it has failed")


async def test_nobody_waits_any_more() -> None:
    """A look-up whose requests were all cancelled fails in silence: an operator reads no traceback of it."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    await a_request_that_is_cancelled()
    gc.collect()
    assert said == []
