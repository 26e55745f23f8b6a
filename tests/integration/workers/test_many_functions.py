"""A worker with a great many functions."""

from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import follow, start
from tests.support.processes import worker_process
from tests.support.settings import QUICK

pytestmark = pytest.mark.anyio

MANY = 500

SOURCE = """
from collections.abc import AsyncIterator
from dataclasses import dataclass
from plugins import function

@dataclass
class Options:
    '''What may be chosen.'''
    lang: str = "en"
    limit: int | None = None

@function(timeout=60, retries=1)
async def many_{number}(text: str, options: Options | None = None, times: int = 1) -> AsyncIterator[str]:
    '''Say it.

    Args:
        text: what is said.
        options: how.
        times: how often.
    '''
    for _ in range(times):
        yield text
"""


async def test_five_hundred_functions(own_url: str, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path) -> None:
    """All are listed, all are in the OpenAPI document, and the last one runs as the first."""
    for number in range(MANY):
        (tmp_path / f"many_{number:03}.py").write_text(SOURCE.format(number=number))
    names = {f"many_{number}" for number in range(MANY)}
    try:
        with worker_process(own_url, **QUICK, FUNCTIONS_PATH=str(tmp_path)):
            listed = (await own_client.get("/functions")).json()
            assert names <= {each["name"] for each in listed["functions"]}
            paths = (await own_client.get("/schema")).json()["paths"]
            assert {f"/functions/{name}/tasks" for name in names} <= set(paths)
            for number in (0, MANY - 1):
                assert (await follow(own_client, await start(own_client, f"many_{number}", text="hey")))[0] == ["hey"]
    finally:
        await own.hdel(keys.FUNCTIONS, *names)
