"""`python -m bench.attacks [attack …]`: the longest pause of a live stream beside each attack, into docs/attacks.md.

Each attack has an API, a worker and a Redis of its own, as they are deployed. The attacker and the reader of the stream
are processes of their own: neither shares a loop with the other, or with what is attacked.
"""

import argparse
import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench import machine
from bench.attackers import BY_NAME, MIB, Sent, Target
from bench.pauses import Pauses
from bench.peers.tailrace import Tailrace
from bench.work import Work
from tests.support.redis_servers import EmbeddedRedis

FILE: Final = Path(__file__).parent.parent / "docs" / "attacks.md"

# Chunks per second of the stream, and as many as no attack outlasts.
RATE: Final = 20
CHUNKS: Final = RATE * 3_600

# Seconds of the stream before an attack, and after it: connections that were left have to be closed, too.
AROUND_S: Final = 1

# Seconds that an attack may take.
LONGEST_S: Final = 600

# As Redis is deployed: it has a limit, and evicts nothing.
REDIS: Final = ("--maxmemory", "256mb", "--maxmemory-policy", "noeviction")


class Row(NamedTuple):
    """An attack; what was sent; what became of the stream beside it; and the load of the machine before it."""

    title: str
    sent: Sent
    pauses: Pauses
    load: float


async def beside(name: str, *, seconds: float = 5, share: float = 1) -> Row:
    """Follow a stream while this attack goes on."""
    load = os.getloadavg()[0]
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(*REDIS))
        system = Tailrace()
        await system.start(stack, redis.url)
        stream = await system.stream(Work(CHUNKS, RATE))
        reader = machine.start(stack, machine.pinned(machine.READERS, machine.python("-m", "bench.pauses", stream.url)))
        await stream.begin()
        await asyncio.to_thread(reader.wait_for, "open\n")
        await asyncio.sleep(AROUND_S)
        target = Target(name, system.url, redis.url, stream.task_id, seconds, share)
        command = machine.python("-m", "bench.attackers", msgspec.json.encode(target).decode())
        attacker = machine.start(stack, machine.pinned(machine.READERS, command))
        if await asyncio.to_thread(attacker.wait, LONGEST_S) != 0:
            raise AssertionError(attacker.output)
        await asyncio.sleep(AROUND_S)
        await asyncio.to_thread(reader.stop)
    pauses = msgspec.json.decode(reader.lines[-1], type=Pauses)
    sent = msgspec.json.decode(attacker.lines[-1], type=Sent)
    return Row(title_of(name), sent, pauses, load)


def title_of(name: str) -> str:
    """The attack in words."""
    return " ".join((BY_NAME[name].__doc__ or "").split()).rstrip(".")


def table(rows: list[Row]) -> str:
    """A row for each attack."""
    lines = [
        "| attack | sent | answers | longest pause, ms | made, ms | load |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        answers = ", ".join(f"{count:,} × {status}" for status, count in row.sent.answers.items())
        pause = f"{row.pauses.longest_ms:,.0f}" if row.pauses.whole else "the stream broke"
        lines.append(
            f"| {row.title} | {amount(row.sent)} | {answers} | {pause} | {row.pauses.made_ms:,.0f} | {row.load:.1f} |"
        )
    return "\n".join(lines)


def amount(sent: Sent) -> str:
    """How much was sent, in words."""
    parts = {"connections": sent.connections, "requests": sent.requests}
    words = [f"{count:,} {what}" for what, count in parts.items() if count]
    return ", ".join([*words, *([f"{sent.size / MIB:,.1f} MiB"] if sent.size >= MIB / 10 else [])])


def write(rows: list[Row]) -> None:
    """The table, with the machine and what it means."""
    lines = [
        "# Attacks",
        "",
        "Written by `make bench-attacks`. While each attack runs, another client follows a stream of "
        f"{RATE} chunks per",
        "second and notes its longest wait for the next chunk: 50 ms if nothing disturbs it.",
        "[security.md](security.md) says what bounds each attack.",
        "",
        "API, worker, Redis, attacker and reader are processes on one machine. Of two processors the API has one; the",
        "attacker and the reader share the other. `made` is the longest time between two chunks in the worker: a pause",
        "that is no longer is not the API's. `load` is that of the machine in the minute before.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · {machine.description()}",
        "",
        table(rows),
        "",
    ]
    FILE.write_text("\n".join(lines))


async def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.attacks", description="Attack, and watch a stream beside it.")
    parser.add_argument("attacks", nargs="*", choices=[*BY_NAME, []], help="all of them unless named")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.attacks or BY_NAME:
        print(name, flush=True)
        rows.append(await beside(name))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    if not arguments.attacks:
        write(rows)


if __name__ == "__main__":
    asyncio.run(main())
