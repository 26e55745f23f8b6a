"""Kinds of functions: async or not, with `yield` or without."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.client import data, events, follow, start
from tests.support.files import appeared

pytestmark = pytest.mark.anyio

KINDS: dict[str, list[Any]] = {
    "an_async_function": ["TO BE OR NOT TO BE"],
    "a_function": [{"to": 2, "be": 2, "or": 1, "not": 1}],
    "a_generator": ["to", "be", "or", "not", "to", "be"],
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_function_is_a_stream(client: httpx.AsyncClient, kind: str) -> None:
    """A return value is the one chunk, yielded values are the chunks; then comes the end."""
    task_id = await start(client, kind, text="to be or not to be")
    assert await follow(client, task_id) == (KINDS[kind], "done", {"chunks": len(KINDS[kind])})
    schema = (await client.get(f"/functions/{kind}")).json()["input"]
    assert "text" in str(schema)


async def test_a_chunk_is_what_it_was_when_it_was_yielded(client: httpx.AsyncClient) -> None:
    """A generator in a thread does not run ahead: a change after a `yield` is not in the chunk before. Runs at the
    same time see none of each other's context variables.
    """
    runs = [await start(client, "grows", to=20) for _ in range(5)]
    for task_id in runs:
        chunks, end, _ = await follow(client, task_id)
        assert chunks == [list(range(1, n + 1)) for n in range(1, 21)]
        assert end == "done"


async def test_a_cancel_stops_a_thread_at_its_next_chunk(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """The stream ends at once, and the generator's clean-up runs."""
    task_id = await start(client, "ticks_in_a_thread", folder=str(tmp_path), every=0.05)
    await events(client, task_id, most=2)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    assert (await events(client, task_id))[-1].event == "cancelled"
    await appeared(tmp_path / "cleaned up")


async def test_a_thread_that_takes_too_long_ends(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Its time-out holds for a generator in a thread, too, and its clean-up has run when the end is written."""
    task_id = await start(client, "ticks_in_a_thread", folder=str(tmp_path), every=0.05)
    seen = await events(client, task_id)
    assert (seen[-1].event, seen[-1].json()["code"]) == ("failed", "timeout")
    assert (tmp_path / "cleaned up").exists()
    assert data(seen)[:3] == [1, 2, 3]


async def test_functions_that_block_keep_nobody_waiting(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """However many functions block their threads, all others run: more than a pool of threads would have."""
    gate = tmp_path / "gate"
    blocked = [await start(client, "blocks_its_thread", gate=str(gate)) for _ in range(40)]
    assert await follow(client, await start(client, "count", to=2)) == ([1, 2], "done", {"chunks": 2})
    assert (await follow(client, await start(client, "a_function", text="a")))[1] == "done"
    gate.touch()
    for task_id in blocked:
        assert (await follow(client, task_id))[0] == ["open"]


@pytest.mark.parametrize("what", ["exit", "StopIteration"])
async def test_what_a_thread_raises_fails_its_attempt(client: httpx.AsyncClient, what: str) -> None:
    """Even what would end an iteration or a process; the next attempt runs, with a context that says which it is."""
    seen = await events(client, await start(client, "fails_in_a_thread", what=what))
    assert [event.event for event in seen] == ["message", "attempt", "message", "done"]
    assert data(seen) == [1, 2]


async def test_a_decorator_that_hides_what_it_wraps(client: httpx.AsyncClient) -> None:
    """The function runs as if it were bare, whatever it is behind a decorator that is not async."""
    for name in ("a_wrapped_generator", "a_wrapped_async_generator", "a_plainly_wrapped_async_generator"):
        assert (await follow(client, await start(client, name, count=3)))[:2] == ([0, 1, 2], "done")
    for name in ("a_wrapped_async_function", "an_async_function_of_its_own_loop"):
        assert (await follow(client, await start(client, name, text="a")))[:2] == (["A"], "done")
