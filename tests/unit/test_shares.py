"""The share of a worker's slots that one owner may hold."""

import pytest

from plugins import keys
from services.worker.queue.shares import Shares

OWNER = "a" * 32


@pytest.mark.parametrize(
    ("slots", "percent", "most"),
    [(10, 50, 5), (10, 55, 5), (10, 1, 1), (10, 100, 10), (1, 50, 1), (2, 80, 1), (3, None, 2), (100, None, 80)],
)
def test_a_share_is_rounded_down_and_at_least_one(slots: int, percent: int | None, most: int) -> None:
    """A slot is left for others wherever a worker has two, and no worker is of no use."""
    shares = Shares(slots, percent)
    assert [shares.take(OWNER) for _ in range(most + 1)] == [True] * most + [False]
    assert shares.bind == (most < slots)


def test_owners_have_a_share_each() -> None:
    """One owner takes nothing from another, and has again what it gives back."""
    shares = Shares(2, 50)
    assert [shares.take(OWNER), shares.take("b" * 32), shares.take(OWNER)] == [True, True, False]
    shares.release(OWNER)
    assert shares.take(OWNER)


@pytest.mark.parametrize(("percent", "room"), [(None, 10), (50, 5)])
def test_the_owner_of_an_api_without_authentication(percent: int | None, room: int) -> None:
    """It may have all slots, unless the setting is set."""
    assert Shares(10, percent).room(keys.ANONYMOUS) == room
