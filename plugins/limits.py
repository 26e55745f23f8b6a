"""The gate: how many attempts of a function run at once, and start within a period, over all workers.

A gate is one key for each function with limits, or for each value of its `concurrency_key`. What may not start yet
waits there, in the order in which the tasks were created, and has no message on the queue. Both services call the
script themselves; who is told that tickets were let in puts them on the queue.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from plugins import keys

SCRIPT: Final = Path(__file__).with_name("limits.lua").read_text()

# Scores of the sorted set (limits.lua): those that are in, and one that has begun.
INSIDE: Final = ("-inf", "(0")
BEGUN: Final = -1

# Starts per second, minute or hour. Every start within the period is a member of the gate, so there is a most.
RATE: Final = re.compile(r"([1-9]\d{0,3}|10000)/([smh])", re.ASCII)
PERIOD_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000}


class Ticket(NamedTuple):
    """One attempt of one task: what a gate lets in. A later attempt is another ticket."""

    task_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.task_id}:{self.attempt}"


class Limited(Protocol):
    """What says how a function is limited: its policy, or what was announced of it."""

    @property
    def concurrency(self) -> int | None:
        """Attempts that may run at once."""

    @property
    def rate(self) -> str | None:
        """Starts within a period, as `RATE` has it."""


class Limits(msgspec.Struct, frozen=True):
    """What a gate holds to: `concurrency` in at once, `starts` within `period_ms`. None is no limit."""

    concurrency: int | None = None
    starts: int | None = None
    period_ms: int = 0


class Answer(NamedTuple):
    """What a gate says: milliseconds until the rate lets the next one in, if one waits for that; how many wait; who was
    let in.
    """

    wait_ms: int | None
    waiting: int
    admitted: list[Ticket]


def limits_of(limited: Limited) -> Limits:
    """The limits as the script takes them."""
    rate = RATE.fullmatch(limited.rate or "")
    if rate is None:
        return Limits(limited.concurrency)
    return Limits(limited.concurrency, int(rate[1]), PERIOD_MS[rate[2]])


def name_of(function: str, value: Any) -> str:
    """The gate of a function for this value of its `concurrency_key`, any JSON value; None where it has no such key."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # the same for JSON Schema, and for the function
    return keys.gate(function, hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:32])


def arguments(
    gate: str, limits: Limits, *, comes: Ticket | None = None, order: int = 0, go: Iterable[Ticket] = ()
) -> dict[str, Any]:
    """What to call the script with: who comes, by which order, and who goes. With neither it lets in who may."""
    at_once = "" if limits.concurrency is None else limits.concurrency
    starts = "" if limits.starts is None else limits.starts
    coming = "" if comes is None else str(comes)
    return {
        "keys": [gate],
        "args": [at_once, starts, limits.period_ms, keys.TASK_TTL_S, coming, order, *map(str, go)],
    }


def answer_of(reply: Any) -> Answer:
    """What the script's reply says."""
    wait, waiting, admitted = reply
    return Answer(None if wait < 0 else wait, waiting, [ticket_of(member) for member in admitted])


def ticket_of(member: bytes) -> Ticket:
    """The ticket that this member of a gate is."""
    task_id, _, attempt = member.decode().partition(":")
    return Ticket(task_id, int(attempt))


def pause_s(wait_ms: int) -> float:
    """Seconds until a gate that has said so should be asked again. At high rates it lets in several at a time."""
    return max(wait_ms + 1, 10) / 1000


def look_at(answer: Answer, now: int, unclaimed_s: int) -> int:
    """When (s) recovery should look at the gate, if a ticket waits: after `unclaimed_s` at most, because the process
    that was to ask again may have died.
    """
    wait_s = unclaimed_s if answer.wait_ms is None else answer.wait_ms // 1000 + 2
    return now + min(wait_s, unclaimed_s)
