"""Limits of functions: the valid declarations, the tasks that they count together, and the timers."""

import enum
import inspect
from datetime import date
from typing import Any

import pytest

from plugins import function, limits
from plugins.declaration import Declaration
from plugins.function import policy
from plugins.limits import Limits
from services.api.tasks.limits import limit_key_of
from services.worker.registry.docstrings import Docs
from services.worker.registry.signature import input_of


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
