"""Limits: how many attempts of a function run at once, and start within a period, over all workers.

A limit is one key for each function that has limits, or for each value of its `concurrency_key`. Attempts that may not
start yet wait there, in the order in which their tasks were created, and have no message on the queue. Both services
call the script themselves, and enqueue the attempts that it admits.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from plugins import keys, scripts

SCRIPT: Final = scripts.read("limits.lua", __file__)

# Scores of the sorted set (limits.lua): of all admitted tickets, and of one whose attempt has started.
ADMITTED_SCORES: Final = ("-inf", "(0")
STARTED: Final = -1

# Starts per second, minute or hour. Every start within the period is a member of the sorted set, so they are bounded.
RATE: Final = re.compile(r"([1-9]\d{0,3}|10000)/([smh])", re.ASCII)
PERIOD_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000}


class Ticket(NamedTuple):
    """One attempt of one task at a limit. A later attempt is another ticket."""

    task_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.task_id}:{self.attempt}"


class Limits(msgspec.Struct, frozen=True):
    """The limits as the script takes them: `concurrency` at once, `starts` within `period_ms`. None is no limit."""

    concurrency: int | None = None
    starts: int | None = None
    period_ms: int = 0


class Decision(NamedTuple):
    """The script's answer: milliseconds until the rate admits the next ticket, None if none waits for that; how many
    tickets wait; the tickets that were admitted.
    """

    wait_ms: int | None
    waiting: int
    admitted: list[Ticket]


def limits_of(concurrency: int | None, rate: str | None) -> Limits:
    """Return the limits of a function, as declared, as the script takes them."""
    starts = RATE.fullmatch(rate or "")
    return Limits(concurrency, int(starts[1]), PERIOD_MS[starts[2]]) if starts else Limits(concurrency)


def key_of(function: str, value: Any) -> str:
    """Return the limit's key for a function and a value of its `concurrency_key`: any JSON value, or None if the
    function has no such key.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON Schema and the function treat them as equal
    return keys.limit(function, hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:32])


def arguments(
    key: str,
    limits: Limits,
    *,
    acquire: Ticket | None = None,
    order: int = 0,
    release: Iterable[Ticket] = (),
    scan_s: int | None = None,
    is_scan: bool = False,
) -> dict[str, Any]:
    """Return the arguments of the script: acquire a ticket with this order, release others, and admit the next ones.

    If tickets wait then, recovery scans the limit within `scan_s`; None leaves that as it is. `is_scan` says that this
    call is such a scan.
    """
    concurrency = "" if limits.concurrency is None else limits.concurrency
    starts = "" if limits.starts is None else limits.starts
    ticket = "" if acquire is None else str(acquire)
    scan = ["" if scan_s is None else scan_s, int(is_scan), keys.WAITING]
    names = [key, keys.OPEN] if acquire is None else [key, keys.OPEN, keys.metadata(acquire.task_id)]
    return {
        "keys": names,
        "args": [concurrency, starts, limits.period_ms, keys.TASK_TTL_S, ticket, order, *scan, *map(str, release)],
    }


def decision_of(reply: Any) -> Decision:
    """Decode the script's reply."""
    wait, waiting, admitted = reply
    return Decision(None if wait < 0 else wait, waiting, [ticket_of(member) for member in admitted])


def ticket_of(member: bytes) -> Ticket:
    """Decode a member of the sorted set."""
    task_id, _, attempt = member.decode().partition(":")
    return Ticket(task_id, int(attempt))


class Wakeups:
    """One timer for each limit whose rate admits the next ticket later. `call` is started with the limit's key then.

    It must handle its own errors: nothing waits for it.
    """

    def __init__(self, call: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._call = call
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def after(self, decision: Decision, key: str) -> None:
        """Set the limit's timer, if the decision says when the rate admits the next ticket and no timer is set.

        It is at least 10 ms, so that at high rates one call admits several tickets.
        """
        if decision.wait_ms is not None and key not in self._timers:
            delay_s = max(decision.wait_ms + 1, 10) / 1000
            self._timers[key] = asyncio.get_running_loop().call_later(delay_s, self._start, key)

    def close(self) -> None:
        """Cancel all timers, and the calls that they have started."""
        for timer in self._timers.values():
            timer.cancel()
        for call in self._calls:
            call.cancel()

    def _start(self, key: str) -> None:
        del self._timers[key]
        call = asyncio.create_task(self._call(key))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
