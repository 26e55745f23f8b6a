"""Directed schedules: pauses, deaths and clocks that must not be taken for something else."""

import pytest

from tests.simulation.system import System, scheduled

pytestmark = pytest.mark.redis


@scheduled
async def test_a_pause_of_everything_is_not_a_death(system: System) -> None:
    """Redis, the APIs and the workers stand still for 20 s, as in a snapshot of their machine. No task of a living
    worker is taken from it.
    """
    simulator = system.simulator
    system.declare("long")
    system.declare("again", retries=1)
    apis = [system.api("A"), system.api("B")]
    workers = [system.worker("W1"), system.worker("W2")]
    await simulator.go()
    tasks = [await system.submitted(apis[0], name) for name in ("long", "again") * 2]
    await simulator.passes(37.5)
    assert len(system.running) == 4

    simulator.freeze(*apis, *workers)
    simulator.advance(20)
    simulator.wake(*apis)
    for _ in range(3):  # the APIs are the first to act, whatever they have to do
        await simulator.go(*apis)
    simulator.wake(*workers)
    await simulator.passes(30)

    assert [system.end(task) for task in tasks] == [None] * 4
    await simulator.passes(5, work=True)
    assert [system.end(task) for task in tasks] == ["done"] * 4
    assert set(system.begun.values()) == {1}
