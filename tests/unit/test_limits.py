"""Limits of functions: the valid declarations, the tasks that they count together, and the timers."""

import asyncio
import enum
import inspect
from datetime import date
from typing import Any

import pytest

from plugins import function, limits
from plugins.declaration import Declaration
from plugins.function import policy
from plugins.limits import Decision, Limits, Wakeups
from services.api.tasks.limits import limit_key_of
from services.worker.registry.docstrings import Docs
from services.worker.registry.signature import input_of
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

HOUR_S = 3_600


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number, 1 or more, not 0"),
        ({"concurrency": True}, "concurrency must be a whole number"),
        ({"concurrency": 1.5}, "concurrency must be a whole number"),
        ({"concurrency_key": "user"}, "concurrency_key needs concurrency"),
        *[
            ({"rate": rate}, r'rate must be 1 to 10000 starts per s, m or h, such as "10/s"')
            for rate in ("", "10", "0/s", "-1/s", "10/d", "1.5/s", "10001/s", " 1/s", "1/s\n", 10)
        ],
    ],
    ids=str,
)
def test_limits_that_make_no_sense(given: dict[str, Any], reason: str) -> None:
    """They are refused where they are declared, by a message that says what would be right."""
    with pytest.raises(ValueError, match=reason):
        function(**given)


def test_limits_as_the_gate_has_them() -> None:
    """A rate is a number of starts and a period in milliseconds."""

    @function(concurrency=3, rate="10000/h")
    async def limited() -> int:
        return 1

    attached = policy(limited)
    assert attached is not None
    assert limits.limits_of(attached.concurrency, attached.rate) == Limits(3, 10_000, 3_600_000)


def test_which_tasks_a_limit_counts_together() -> None:
    """Those with the same value: 3 is 3.0, a default is as good as given. Another function has gates of its own."""
    schema = {"$ref": "#/$defs/f", "$defs": {"f": {"properties": {"key": {"default": 3}}}}}

    def name(of: str = "f", **given: Any) -> str | None:
        declared = Declaration(
            name=of, description="", version="", input=schema, timeout=1, concurrency=1, concurrency_key="key"
        )
        return limit_key_of(declared, given)

    assert name() == name(key=3) == name(key=3.0)
    assert len({name(), name(key="3"), name(key=None), name(key=True), name(key=[3]), name(of="g")}) == 6


def test_a_default_counts_as_it_is_announced() -> None:
    """An enum's member, or whatever the default is, is one with the JSON that a client would send for it."""

    class Host(enum.Enum):
        MAIN = "main.example"

    async def fetch(host: Host = Host.MAIN, at: date = date(2026, 1, 2)) -> None: ...

    schema = input_of(inspect.signature(fetch).parameters.values(), "fetch", Docs("", {})).schema
    for key, value in (("host", "main.example"), ("at", "2026-01-02")):
        declared = Declaration(
            name="fetch", description="", version="", input=schema, timeout=1, concurrency=1, concurrency_key=key
        )
        assert limit_key_of(declared, {}) == limit_key_of(declared, {key: value})
        assert limit_key_of(declared, {}) != limit_key_of(declared, {key: None})


def waits(wait_ms: int | None) -> Decision:
    """The decision that the next ticket is admitted after so many milliseconds, or not by the rate."""
    return Decision(wait_ms, 1, [])


async def test_a_limit_has_one_timer() -> None:
    """Further decisions about a limit leave its timer alone. Once that is over, the next decision sets another."""
    calls: list[str] = []
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    async def call(key: str) -> None:
        calls.append(key)

    wakeups = Wakeups(call)
    wakeups.after(waits(None), "no rate")
    for key in ("one", "one", "other", "one"):
        wakeups.after(waits(0), key)
    wakeups.after(waits(30), "last")
    await until(lambda: "last" in calls)
    assert (calls, errors) == (["one", "other", "last"], [])

    wakeups.after(waits(0), "one")
    await until(lambda: calls == ["one", "other", "last", "one"])


@pytest.mark.parametrize(("wait_ms", "at_least_s"), [(0, 0.01), (9, 0.01), (40, 0.041)])
async def test_a_timer_is_not_early(wait_ms: int, at_least_s: float) -> None:
    """It waits until the rate admits the next ticket; 10 ms at least, so that one call admits several."""
    loop = asyncio.get_running_loop()
    called: list[float] = []

    async def call(_: str) -> None:
        called.append(loop.time())

    begun = loop.time()
    Wakeups(call).after(waits(wait_ms), "limit")
    (at,) = await until(lambda: called)
    assert at - begun >= at_least_s - 0.000_1  # the loop's clock has a resolution


async def test_closing_ends_timers_and_their_calls() -> None:
    """No call is started after it, and a started one is cancelled."""
    calls: list[str] = []

    async def call(key: str) -> None:
        calls.append(f"{key} begins")
        try:
            await asyncio.sleep(HOUR_S)
        finally:
            calls.append(f"{key} ends")

    wakeups, others = Wakeups(call), Wakeups(call)
    wakeups.after(waits(0), "started")
    await until(lambda: calls == ["started begins"])
    wakeups.after(waits(0), "waiting")
    wakeups.close()
    await until(lambda: calls == ["started begins", "started ends"])

    others.after(waits(30), "later")  # than the timer of "waiting"
    await until(lambda: "later begins" in calls)
    assert calls == ["started begins", "started ends", "later begins"]
    others.close()
    await until(lambda: "later ends" in calls)
