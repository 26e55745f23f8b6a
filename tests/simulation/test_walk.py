"""Random histories: whatever happens in which order, the promises of docs/reliability.md hold.

`make test` plays the same seeds at every run: a change of the code decides whether it passes, and not chance. `make
chaos` draws others. `SIMULATION_SEED` repeats the history that a failed test names, `SIMULATION_HISTORIES` is how many
`make chaos` plays.
"""

import os
from collections import Counter
from contextlib import suppress
from typing import Final

import pytest

from tests.simulation.server import Server
from tests.simulation.simulator import Simulator
from tests.simulation.walk import play
from tests.support.seeds import END, seed

VARIABLE: Final = "SIMULATION_SEED"
FIRST: Final = seed(VARIABLE, default=1)

# How many histories each test plays: `make test` is to take seconds.
PARTS: Final = 10
IN_PART: Final = 13
IN_PART_WITH_LOSSES: Final = 6

# How many `make chaos` plays, of each kind.
MANY: Final = int(os.environ.get("SIMULATION_HISTORIES", "2000"))

pytestmark = pytest.mark.redis


def seeds(first: int, count: int) -> list[int]:
    """The seeds of a test: one, if it was given."""
    return [first] if os.environ.get(VARIABLE) else [(first + number) % END for number in range(count)]


def first_of(part: int, count: int) -> int:
    """The first seed of a part: the given one, if there is one."""
    return FIRST if os.environ.get(VARIABLE) else FIRST + part * count


def played(server: Server, first: int, count: int, *, losses: bool) -> Counter[str]:
    """Play histories one after the other, and keep none; how many there were, their tasks and the entries read."""
    counts: Counter[str] = Counter()
    for number in seeds(first, count):
        history = play(Simulator(server), number, losses=losses)
        counts += Counter(histories=1, tasks=history.tasks, entries=history.entries_read)
    return counts


@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories(simulated_server: Server, part: int) -> None:
    """Commands are lost, doubled, late or cut; processes die, freeze and stop; clocks differ. Every promise holds."""
    played(simulated_server, first_of(part, IN_PART), IN_PART, losses=False)


@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories_with_lost_data(simulated_server: Server, part: int) -> None:
    """The same, and Redis comes back without its last second. The promises that allow for that hold."""
    played(simulated_server, first_of(part, IN_PART_WITH_LOSSES), IN_PART_WITH_LOSSES, losses=True)


@pytest.mark.chaos
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("losses", [False, True])
def test_many_histories(simulated_server: Server, losses: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands."""
    first = seed(VARIABLE)
    with capsys.disabled():
        print(f"\n{VARIABLE}={first}", flush=True)
    counts = played(simulated_server, first, MANY, losses=losses)
    with capsys.disabled():
        print(f"{counts['histories']} histories, {counts['tasks']} tasks, {counts['entries']} entries read", flush=True)


def test_a_seed_determines_its_history(simulated_server: Server) -> None:
    """Step by step, with their times: a failed history can be repeated."""

    def story() -> str:
        simulator = Simulator(simulated_server)
        with suppress(AssertionError):  # this test is not about what it came to
            play(simulator, 7, losses=True)
        return simulator.story()

    assert story() == story()
