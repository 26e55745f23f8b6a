"""Beginning what is awaited, without a task for it."""

import asyncio

import pytest

from services.api.streams.eager import run_until_blocked

pytestmark = pytest.mark.anyio


class Work:
    """Something that waits when it is told to, and notes how far it came."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.second: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Wait twice, and clean up."""
        self.steps.append("begun")
        try:
            self.steps.append(await self.first)
            self.steps.append(await self.second)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.steps.append("cleaned up")
            raise


async def test_what_does_not_wait_is_done() -> None:
    """A send that only copies bytes costs no task."""
    done: list[bool] = []

    async def work() -> None:
        done.append(True)

    assert run_until_blocked(work()) is None
    assert done == [True]


async def test_the_rest_goes_on_in_a_task() -> None:
    """A coroutine that has to wait has begun all the same. It goes on in a task whenever its future has a result."""
    work = Work()
    rest = run_until_blocked(work.run())
    assert rest is not None
    assert work.steps == ["begun"]
    going_on = asyncio.ensure_future(rest)
    work.first.set_result("one")
    await asyncio.sleep(0)
    work.second.set_result("two")
    await going_on
    assert work.steps == ["begun", "one", "two"]


async def test_what_came_before_the_task_is_not_missed() -> None:
    """Between the two, what it waits for may have come already."""
    work = Work()
    rest = run_until_blocked(work.run())
    work.first.set_result("one")
    work.second.set_result("two")
    assert rest is not None
    await rest
    assert work.steps == ["begun", "one", "two"]


async def test_a_cancel_reaches_the_work() -> None:
    """Its clean-up runs, though that waits, too."""
    work = Work()
    rest = run_until_blocked(work.run())
    assert rest is not None
    going_on = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    going_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_on
    assert work.steps == ["begun", "cleaned up"]


async def test_errors_come_where_the_work_is_awaited() -> None:
    """At once where it fails at once; else from the rest."""

    async def fails(first: asyncio.Future[None] | None) -> None:
        if first is not None:
            await first
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run_until_blocked(fails(None))
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    rest = run_until_blocked(fails(gone))
    gone.set_result(None)
    assert rest is not None
    with pytest.raises(ConnectionResetError):
        await rest
