"""Events that a function cannot yield, and a time-out that applies all the same."""

import httpx
import pytest

from tests.support.client import follow, start

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["done", "message", "error", "two words", "über", "1st", ""])
async def test_a_name_that_readers_would_misunderstand(client: httpx.AsyncClient, name: str) -> None:
    """The task fails, and says which name it was."""
    chunks, end, why = await follow(client, await start(client, "tells", name=name))
    assert (chunks, end, why["code"]) == ([1], "failed", "error")
    assert repr(name) in why["message"]


async def test_its_time_is_up_all_the_same(client: httpx.AsyncClient) -> None:
    """A time-out is no request to end: it ends the task."""
    chunks, end, why = await follow(client, await start(client, "sleeps_too_long"))
    assert (chunks, end, why["code"]) == ([False], "failed", "timeout")
