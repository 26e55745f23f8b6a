"""Random histories of one log and its readers, with losses: each view is the log, or its reader is told of the loss.

`make test` walks the same seeds at every run: a change of the code decides whether it passes, and not chance. `make
chaos` draws others. `READERS_SEED` is the first history's seed: it repeats the history of which a run has printed the
seed.
"""

import os
from collections.abc import Iterator
from typing import Final

import pytest
from redis import Redis

from tests.simulation.reader_walk import Walk
from tests.support.seeds import seed

VARIABLE: Final = "READERS_SEED"

HISTORIES: Final = 200

# How many `make chaos` walks.
MANY_HISTORIES: Final = int(os.environ.get("READERS_HISTORIES", "10000"))


@pytest.fixture
def own(own_database: str) -> Iterator[Redis]:
    """A database of its own."""
    with Redis.from_url(own_database) as own:
        yield own


def test_random_histories(own: Redis) -> None:
    """Two hundred, at every run."""
    walk(own, HISTORIES, seed(VARIABLE, default=1))


@pytest.mark.chaos
@pytest.mark.timeout(1_800)
def test_many_random_histories(own: Redis) -> None:
    """Thousands."""
    walk(own, MANY_HISTORIES, seed(VARIABLE))


def walk(own: Redis, histories: int, first: int) -> None:
    """Walk so many histories, and print the steps of the first that has a fault."""
    print(f"{VARIABLE}={first}")
    losses = gaps = 0
    for number in range(first, first + histories):
        history = Walk(own, number)
        history.run()
        losses += history.losses
        gaps += history.gaps
        if history.faults:
            steps = "\n".join(history.steps)
            pytest.fail(f"{VARIABLE}={number} repeats this history:\n{steps}\n" + "\n".join(history.faults))
    print(f"{histories:,} histories, {losses:,} losses, {gaps:,} gaps")
    assert losses
    assert gaps
