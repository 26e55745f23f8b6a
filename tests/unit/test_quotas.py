"""Quotas within a process: what one owner uses is not taken from another, and what is over is given back."""

import asyncio
import time
from typing import Any

import pytest

from services.api.http.places import Places, given_back
from services.api.http.quotas import NO_OWN, Limits, OwnerQuotaError, OwnerRateError, Quota, SharedQuotaError
from services.api.http.request_rate import MAX_PACES, MIN_REMEMBERED, RequestRate

ONE_OWNER = Quota(2, "TAILRACE_OWNER_STREAMS")
ALL_OWNERS = Quota(3, "TAILRACE_STREAMS")


class Clock:
    """A clock that a test sets."""

    now = 1_000.0

    def __call__(self) -> int:
        """As time.monotonic_ns."""
        return round(self.now * 1_000_000_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which requests are counted."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic_ns", clock)
    return clock


def accepted(rate: RequestRate, owner: str, asked: int, limits: Limits = NO_OWN) -> int:
    """How many of so many requests count that an owner sends at one moment, with a key of these limits."""
    for number in range(asked):
        try:
            rate.count(owner, limits)
        except OwnerRateError:
            return number
    return asked


def test_an_owner_may_send_a_burst_and_then_keeps_the_pace(clock: Clock) -> None:
    """Ten at once, then as many as the time allows; after a pause, ten again."""
    rate = RequestRate(Quota(5, "TAILRACE_OWNER_REQUESTS"), burst=10)
    assert accepted(rate, "one", 100) == 10
    clock.now += 1
    assert accepted(rate, "one", 100) == 5
    clock.now += 60
    assert accepted(rate, "one", 100) == 10


def test_a_refused_request_is_told_when_to_come_back(clock: Clock) -> None:
    """After that time the request counts, and before it does not; refused requests make it no later."""
    rate = RequestRate(Quota(4, "TAILRACE_OWNER_REQUESTS"), burst=1)
    rate.count("one")
    for _ in range(100):
        with pytest.raises(OwnerRateError) as refused:
            rate.count("one")
    assert refused.value.retry_after_s == pytest.approx(0.25)
    clock.now += 0.2
    assert accepted(rate, "one", 1) == 0
    clock.now += 0.06
    assert accepted(rate, "one", 1) == 1


def test_an_owner_that_asks_too_fast_takes_nothing_from_another(clock: Clock) -> None:
    """Each has a pace of its own."""
    rate = RequestRate(Quota(1, "TAILRACE_OWNER_REQUESTS"), burst=3)
    assert accepted(rate, "one", 100) == 3
    assert accepted(rate, "other", 100) == 3


def test_a_key_keeps_a_pace_of_its_own(clock: Clock) -> None:
    """Slower or faster than the settings say. A burst that it does not name is in proportion."""
    rate = RequestRate(Quota(10, "TAILRACE_OWNER_REQUESTS"), burst=50)
    assert accepted(rate, "slow", 100, Limits(requests=2)) == 10
    assert accepted(rate, "slow and small", 100, Limits(requests=2, burst=3)) == 3
    assert accepted(rate, "fast", 1_000, Limits(requests=100)) == 500
    assert accepted(rate, "small", 100, Limits(burst=7)) == 7
    assert accepted(rate, "least", 100, Limits(requests=1)) == 5
    clock.now += 1
    assert accepted(rate, "slow", 100, Limits(requests=2)) == 2
    assert accepted(rate, "small", 100, Limits(burst=7)) == 7
    assert accepted(RequestRate(Quota(100, "TAILRACE_OWNER_REQUESTS"), 10), "slow", 9, Limits(requests=1)) == 1


def test_requests_of_all_keys_count_for_each(clock: Clock) -> None:
    """A slow key takes next to nothing from a fast one of the same owner. It is refused while that one sends more than
    its own pace, and for no longer.
    """
    rate, slow = RequestRate(Quota(100, "TAILRACE_OWNER_REQUESTS"), burst=100), Limits(requests=1, burst=5)
    assert accepted(rate, "one", 100, slow) == 5
    assert accepted(rate, "one", 1_000) == 95 + 5  # the fast pace begins with the fast key's first request
    clock.now += 1
    assert accepted(rate, "one", 100) == 100
    assert accepted(rate, "one", 100, slow) == 0
    clock.now += 1
    assert accepted(rate, "one", 100, slow) == 1


@pytest.mark.parametrize(
    ("limits", "setting", "most", "words"),
    [
        (NO_OWN, "TAILRACE_OWNER_REQUESTS", 100, "more than 100 requests a second, as many as one owner may"),
        (Limits(requests=3, burst=1), "limits.requests", 3, "more than 3 requests a second, as many as an owner with"),
        (Limits(burst=2), "limits.burst", 2, "more than 2 requests at once, as many as an owner with this API key"),
    ],
)
def test_a_refusal_names_the_limit_that_counts(
    clock: Clock, limits: Limits, setting: str, most: int, words: str
) -> None:
    """The variable; or the member of the key in its file."""
    rate = RequestRate(Quota(100, "TAILRACE_OWNER_REQUESTS"), burst=10)
    accepted(rate, "one", 20, limits)
    with pytest.raises(OwnerRateError) as refused:
        rate.count("one", limits)
    assert refused.value.quota[:2] == (most, setting)
    assert words in refused.value.detail
    assert refused.value.detail.endswith(f"({setting}).")


def test_owners_that_are_idle_are_forgotten(clock: Clock) -> None:
    """A hundred thousand owners leave no more behind than those of the last second."""
    rate = RequestRate(Quota(1, "TAILRACE_OWNER_REQUESTS"), burst=1)
    for number in range(100_000):
        rate.count(f"owner {number}")
        clock.now += 1 / 100
    assert len(rate._due) <= MIN_REMEMBERED + 1


def test_keys_that_are_not_used_are_forgotten(clock: Clock) -> None:
    """An owner that never pauses, and whose keys get other limits each day, leaves no more behind than its last few. A
    key that it goes on using is not forgotten.
    """
    rate, slow = RequestRate(Quota(100, "TAILRACE_OWNER_REQUESTS"), burst=100), Limits(requests=1, burst=1)
    for number in range(100):
        assert accepted(rate, "one", 5, slow) == 1
        for other in range(10):
            rate.count("one", Limits(requests=2_000 + 10 * number + other, burst=2_000))
        assert accepted(rate, "one", 5, slow) == 0
        clock.now += 1
    assert len(rate._due["one"]) == MAX_PACES


async def run(places: Places, owner: str, work: Any) -> None:
    """A request of this owner that takes a place, and then does this."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        places.take(scope, owner)
        places.take(scope, owner)  # it has one
        await work()

    await given_back(app)({}, None, None)  # type: ignore[arg-type]  # nothing reads them


@pytest.mark.anyio
async def test_places_are_counted_by_owner_and_by_process() -> None:
    """An owner may have two of three. The last one is for another owner; then there is none for any."""
    places, done = Places(ALL_OWNERS, ONE_OWNER), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for owner in ("one", "one", "other"):
            group.create_task(run(places, owner, done.wait))
        await asyncio.sleep(0)
        with pytest.raises(OwnerQuotaError, match="You have 2 open streams"):
            await run(places, "one", done.wait)
        with pytest.raises(SharedQuotaError, match="This process has 3 open streams"):
            await run(places, "third", done.wait)
        done.set()
    assert not places._taken


@pytest.mark.anyio
async def test_a_request_gives_its_place_back_however_it_ends() -> None:
    """It returns, raises before the response has begun, or is cancelled: a hundred times, with two places."""
    places = Places(ALL_OWNERS, ONE_OWNER)

    async def fail() -> None:
        raise ValueError

    async def nothing() -> None:
        pass

    for _ in range(100):
        await run(places, "one", nothing)
        with pytest.raises(ValueError):  # noqa: PT011  # the one above
            await run(places, "one", fail)
        waiting = asyncio.create_task(run(places, "one", asyncio.Event().wait))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert not places._taken
