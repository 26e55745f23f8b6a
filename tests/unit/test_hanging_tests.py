"""The report of a test that hangs."""

import asyncio
import contextlib
import math

import pytest

from tests.support.patience import BEFORE_S, given_up, patience_s

pytestmark = pytest.mark.anyio


async def test_a_test_that_hangs_fails_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    """Itself, though it swallows cancels, and what it has begun beside."""

    async def waits_beside() -> None:
        await asyncio.Event().wait()

    async def hangs() -> None:
        beside = asyncio.create_task(waits_beside())
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.wait([beside])

    with pytest.raises(TimeoutError):
        await given_up(hangs, after_s=0.1)()
    told = capsys.readouterr().err
    assert "in hangs" in told
    assert "in waits_beside" in told


@pytest.mark.timeout(300)
async def test_a_test_that_may_take_longer(request: pytest.FixtureRequest) -> None:
    """A storm says itself how long it lasts."""
    assert patience_s(request.node) == 300 - BEFORE_S


async def test_a_test_like_any_other(request: pytest.FixtureRequest) -> None:
    """It fails before the whole run would be ended because of it."""
    told = request.config.getoption("timeout")
    limit = float(request.config.getini("timeout") if told is None else told)
    assert patience_s(request.node) < (limit or math.inf)
