"""`python -m bench [--runs N] [work …]`: measure, print, and write docs/figures.md and docs/growth.svg."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeVar

from bench import append, fanout, growth, hop, memory, neighbours, replay, report, tasks
from bench.ceiling import Ceiling
from bench.peers import System
from bench.peers.channels import Channels
from bench.peers.durable import DurableStreams, DurableStreamsOneByOne
from bench.peers.fastapi_sse import FastAPISSE
from bench.peers.keyed import Keyed
from bench.peers.nchan import Nchan
from bench.peers.original import Original
from bench.peers.tailrace import Tailrace
from bench.results import Figure, medians
from bench.work import Work
from tests.support.redis_servers import EmbeddedRedis

DOCS: Final = Path(__file__).parent.parent / "docs"

PEERS: Final[Sequence[type[System]]] = (Nchan, DurableStreams, Original, FastAPISSE, Channels)
ALL: Final[Sequence[type[System]]] = (Tailrace, *PEERS)

Figures = list[Figure]

Kind = TypeVar("Kind", bound=System)


async def with_each(systems: Sequence[type[System]], measure: Callable[[System], Awaitable[Figures]]) -> Figures:
    """One after the other, each with an empty Redis; those that are not installed are left out."""
    figures: Figures = []
    for kind in systems:
        system = kind()
        if system.missing() is None:
            async with AsyncExitStack() as stack:
                await system.start(stack, stack.enter_context(EmbeddedRedis()).url)
                figures += await measure(system)
    return figures


async def with_one(kind: type[Kind], measure: Callable[[Kind, str, AsyncExitStack], Awaitable[Figures]]) -> Figures:
    """One alone, or with something that uses the same Redis; nothing where it is not installed."""
    async with AsyncExitStack() as stack:
        system = kind()
        if system.missing() is not None:
            return []
        url = stack.enter_context(EmbeddedRedis()).url
        await system.start(stack, url)
        return await measure(system, url, stack)


async def with_ours(measure: Callable[[Tailrace, str, AsyncExitStack], Awaitable[Figures]]) -> Figures:
    """Ours alone, or with something that uses the same Redis."""
    return await with_one(Tailrace, measure)


async def appending() -> Figures:
    """One stream, many streams, and what a chunk costs Redis."""

    async def ours(system: Tailrace, url: str, stack: AsyncExitStack) -> Figures:
        figures = await append.one(system, 100_000) + await append.many(system, 200, 5_000)
        return figures + await append.commands(system, Work(100_000)) + await append.commands(system, Work(250, 50))

    return await with_ours(ours) + await with_each([Original], lambda system: append.one(system, 2_000))


async def bursts() -> Figures:
    """To a hundred readers, a thousand, ten thousand."""
    systems: Sequence[type[System]] = (Ceiling, *ALL, DurableStreamsOneByOne)
    figures = await with_each(systems, lambda system: fanout.burst(system, 100, 2_000))
    figures += await with_each(systems, lambda system: fanout.burst(system, 1_000, 2_000))
    return figures + await with_each([Ceiling, Tailrace, Nchan], lambda system: fanout.burst(system, 10_000, 200))


async def paces() -> Figures:
    """As an LLM writes, and faster."""
    figures: Figures = []
    for readers, rate in ((100, 50.0), (1_000, 50.0), (1_000, 100.0)):
        figures += await with_each([Ceiling, *ALL], lambda system, n=readers, r=rate: fanout.pace(system, n, r))  # type: ignore[misc]  # mypy infers no lambda with defaults
    return figures + await with_each([Ceiling, Tailrace, Nchan], lambda system: fanout.pace(system, 10_000, 20))


async def one_reader() -> Figures:
    """From yield to bytes, and at the same time, on the same Redis, from one publish to one subscriber.

    At the same time, because how long an idle processor takes to wake up changes from minute to minute by more than
    the difference that is measured.
    """

    async def beside(system: System, url: str, _: AsyncExitStack) -> Figures:
        bare, streamed = await asyncio.gather(hop.hop(url, Work(300, 50)), fanout.pace(system, 1, 50))
        return bare + streamed if isinstance(system, Tailrace) else streamed

    return [figure for kind in ALL for figure in await with_one(kind, beside)]


async def replays() -> Figures:
    """Late readers."""

    async def ours(system: Tailrace, url: str, stack: AsyncExitStack) -> Figures:
        stream = await replay.written(system, 100_000)
        figures = await replay.bare(url, stream, 100_000)
        return figures + await replay.replay(system, stream, 1) + await replay.replay(system, stream, 50)

    return await with_ours(ours)


async def starting() -> Figures:
    """Tasks that do nothing."""

    async def ours(system: Tailrace, url: str, stack: AsyncExitStack) -> Figures:
        return await tasks.per_second(system, 2_000) + await tasks.to_start(system, 200)

    async def plain(_: Tailrace, url: str, stack: AsyncExitStack) -> Figures:
        return await tasks.plain(stack, url, 2_000, 200)

    return await with_ours(ours) + await with_ours(plain)


async def waiting() -> Figures:
    """Readers that only wait."""
    return await with_ours(lambda system, url, stack: memory.idle(system, 10_000))


async def beside_others() -> Figures:
    """One owner, beside another that sends far more than it may."""
    return await with_one(neighbours.Guarded, lambda system, url, stack: neighbours.neighbours(system))


async def with_keys() -> Figures:
    """Without authentication, and with a key that each request sends."""

    async def each(system: System) -> Figures:
        assert isinstance(system, Tailrace)
        started = await tasks.per_second(system, 2_000) + await tasks.to_start(system, 200)
        stream = await replay.written(system, 100_000)
        read = await replay.replay(system, stream, 1) + await replay.replay(system, stream, 50)
        return started + read + await fanout.pace(system, 100, 50) + await fanout.burst(system, 1_000, 2_000)

    return await with_each([Tailrace, Keyed], each)


WORK: Final[dict[str, Callable[[], Awaitable[Figures]]]] = {
    "append": appending,
    "one-reader": one_reader,
    "replay": replays,
    "tasks": starting,
    "memory": waiting,
    "neighbours": beside_others,
    "keys": with_keys,
    "pace": paces,
    "burst": bursts,
}


async def grow() -> None:
    """Draw how it grows."""
    async with AsyncExitStack() as stack:
        system = Tailrace()
        await system.start(stack, stack.enter_context(EmbeddedRedis()).url)
        points = {
            "chunks of one stream": await growth.chunks(system),
            "readers of a burst": await growth.readers(system),
            "streams of one worker": await growth.streams(system),
        }
    report.plot(DOCS / "growth.svg", points)


async def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure, side by side, in one run.")
    parser.add_argument("work", nargs="*", choices=[*WORK, []], help="all of it unless named")
    parser.add_argument("--runs", type=int, default=3, help="runs to take the median of")
    arguments = parser.parse_args()
    figures: Figures = []
    for name in arguments.work or WORK:
        runs = []
        for number in range(arguments.runs):
            print(f"{name}, run {number + 1} of {arguments.runs}", flush=True)
            runs.append(await WORK[name]())
        measured = medians(runs)
        print(report.table(measured), flush=True)
        figures += measured
    systems = [kind() for kind in ALL]
    skipped = {system.name: missing for system in systems if (missing := system.missing())}
    if not arguments.work:
        made_of = {system.name: system.version for system in systems if system.name not in skipped}
        report.write(DOCS, figures, arguments.runs, made_of, skipped)
        await grow()
    for name, missing in skipped.items():
        print(f"{name} was left out: install {missing}")


if __name__ == "__main__":
    asyncio.run(main())
