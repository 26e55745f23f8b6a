"""The benchmark measures what it says: with little work, so that it does not rot; how fast it is, is not looked at."""

from contextlib import AsyncExitStack

import pytest

from bench import append, attacks, fanout, neighbours, pauses, replay
from bench.ceiling import Ceiling
from bench.peers import System
from bench.peers.keyed import Keyed
from bench.peers.original import Original
from bench.peers.tailrace import Tailrace
from bench.results import Figure, medians
from tests.support.redis_servers import EmbeddedRedis

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make bench` needs no setting: what it measures gets those that it needs."""
    monkeypatch.delenv("TAILRACE_AUTH")


def values(figures: list[Figure], what: str) -> list[float]:
    """The values of the figures of this name."""
    return [figure.value for figure in figures if figure.what == what]


@pytest.mark.parametrize("kind", [Ceiling, Tailrace, Keyed, Original])
async def test_every_reader_is_counted(kind: type[System]) -> None:
    """Readers get all chunks of a system, in a burst and at a pace, with an age for each chunk."""
    system = kind()
    with EmbeddedRedis() as redis:
        async with AsyncExitStack() as stack:
            await system.start(stack, redis.url)
            burst = await fanout.burst(system, 5, 100)
            pace = await fanout.pace(system, 5, 50, seconds=1)
    assert values(burst, "delivered") == values(pace, "delivered") == [1]
    assert 0 < values(pace, "p50 ms")[0] <= values(pace, "p99 ms")[0]


async def test_work_on_ours_alone() -> None:
    """Streams are written, and read again, to their ends."""
    system = Tailrace()
    with EmbeddedRedis() as redis:
        async with AsyncExitStack() as stack:
            await system.start(stack, redis.url)
            many = await append.many(system, 3, 20_000)  # long enough to be seen when half is written
            stream = await replay.written(system, 1_000)
            read = await replay.replay(system, stream, 2, 1_000)
    assert values(many, "first / last")[0] >= 1
    assert values(read, "events/s")[0] > 0


async def test_an_owner_beside_another() -> None:
    """The quiet owner's requests are all answered, and most of the other one's are refused."""
    system = neighbours.Guarded()
    with EmbeddedRedis() as redis:
        async with AsyncExitStack() as stack:
            await system.start(stack, redis.url)
            figures = await neighbours.neighbours(system, seconds=1)
    assert values(figures, "answered") == [1]
    assert values(figures, "refused of the other's")[0] > 0.5
    assert all(value > 0 for value in values(figures, "p99 ms"))


def test_the_median_of_several_runs() -> None:
    """One run that was disturbed does not count."""
    runs = [[Figure("work", "ours", "p50 ms", value, less=True)] for value in (2, 90, 1)]
    assert medians(runs) == [Figure("work", "ours", "p50 ms", 2, less=True)]


@pytest.mark.parametrize("attack", ["listings", "pipelined", "forged_ends"])
async def test_a_stream_is_followed_beside_an_attack(attack: str) -> None:
    """The stream is whole, and its pauses are noted; the attacker says what it has sent."""
    row = await attacks.beside(attack, seconds=0.5, share=0.1)
    assert row.pauses.whole
    assert row.pauses.chunks > attacks.RATE
    assert row.pauses.longest_ms > 0
    assert row.sent.requests > 0
    assert len(attacks.table([row]).splitlines()) == 3


def test_pauses_of_a_stream() -> None:
    """The longest wait of the reader, and of the function. A stream that ended or has a gap is not whole."""
    times = [0, 50_000_000, 250_000_000, 300_000_000]
    stream = b"".join(b"id: %d\ndata: @%019d\n\n" % (seq, made) for seq, made in enumerate(times[:3]))
    seen = pauses.pauses(stream, times, stopped=True)
    assert (seen.chunks, seen.longest_ms, seen.made_ms, seen.whole) == (3, 200, 200, True)
    assert not pauses.pauses(stream, times, stopped=False).whole
    assert not pauses.pauses(stream.replace(b"id: 1\n", b"id: 2\n"), times, stopped=True).whole
