"""What is known of a test that hangs."""

import asyncio

import pytest

from tests.patience import given_up

pytestmark = pytest.mark.anyio


async def test_a_test_that_hangs_fails_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    """Though it swallows a cancel, and waits for ever in another task."""

    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    async def hangs() -> None:
        swallowed = 0
        while swallowed < 3:
            try:
                await asyncio.gather(waits_for_ever())
            except asyncio.CancelledError:
                swallowed += 1
        await waits_for_ever()

    with pytest.raises(TimeoutError):
        await given_up(hangs, after_s=0.1)()
    told = capsys.readouterr().err
    assert "in hangs" in told
    assert "in waits_for_ever" in told
