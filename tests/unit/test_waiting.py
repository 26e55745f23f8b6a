"""The waiting of the tests: it ends with what came about, or says what has not."""

import time
from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def numbers() -> Iterator[int]:
    """0, 1, 2, …"""
    return count()


async def test_what_it_sees_is_what_it_gives(numbers: Iterator[int]) -> None:
    """It looks until there is something to see, and returns that."""

    async def look() -> str | None:
        return "there" if next(numbers) == 3 else None

    assert await until(look) == "there"
    assert next(numbers) == 4


async def test_what_needs_no_await(numbers: Iterator[int]) -> None:
    """The look may be a plain function."""
    assert await until(lambda: next(numbers)) == 1


async def test_a_pause_lies_between_two_looks(numbers: Iterator[int]) -> None:
    """It keeps no machine busy."""
    begun = time.monotonic()
    await until(lambda: next(numbers) == 5, pause_s=0.02)
    assert time.monotonic() - begun >= 0.1


async def test_it_says_what_it_waited_for() -> None:
    """After the deadline, the message has the expected event, the last value, and the details, which are read then."""

    async def details() -> list[str]:
        return ["task 7"]

    with pytest.raises(AssertionError) as failure:
        await until(lambda: 0, "no task is open", deadline_s=0.05, details=details)
    assert str(failure.value).startswith("not within 0.05 s: no task is open\nseen last: 0\n['task 7']")


async def test_it_says_so_by_itself() -> None:
    """Without a text, it shows the look's own."""

    def never() -> bool:
        return False

    with pytest.raises(AssertionError, match=r"not within 0\.01 s: def never\(\) -> bool:\n +return False\nseen last"):
        await until(never, deadline_s=0.01)
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: await until\(lambda: None, deadline_s=0\.01\)"):
        await until(lambda: None, deadline_s=0.01)


async def test_it_looks_once_in_any_case() -> None:
    """A deadline that is over is none for what is there."""
    assert await until(lambda: "there", deadline_s=0) == "there"
