"""Directed schedules: Redis crashes, and comes back without its last second."""

from collections.abc import AsyncIterator

import pytest

from plugins import Context
from tests.simulation.clock import PROCESS
from tests.simulation.system import System, scheduled

pytestmark = pytest.mark.redis


@scheduled
async def test_an_end_that_is_lost(system: System) -> None:
    """Redis loses the end of a task just after the worker has written it. Readers get an end nevertheless; the status
    is that end, and a DELETE does not change it.
    """
    simulator = system.simulator
    system.declare("quick", 2)
    api, worker = system.api("A"), system.worker("W1")
    await simulator.go()
    task = await system.submitted(api, "quick")
    end = await simulator.until(lambda step: step.says('{"event":"done"'), worker, work=True)
    before = system.server.snapshot()
    simulator.let(end)
    await simulator.settle()
    simulator.lose_data(before)

    took = await simulator.come_true(lambda: system.end(task) is not None, 120)
    assert took is not None, f"the log has no end; the status is {(await system.told(api, task))['status']}"
    told = await system.told(api, task)
    assert system.log(task)[-1].event == told["status"]
    cancel = api.cancel(task)
    await simulator.go(api)
    assert cancel.result().json["status"] == told["status"]
    assert [entry.event for entry in system.log(task) if entry.ends] == [told["status"]]


def named(system: System) -> None:
    """Declare a function that yields its worker's name, four times."""

    async def body(context: Context) -> AsyncIterator[str]:
        for number in range(4):
            await system.simulator.work(f"works at {number}")
            yield f"{PROCESS.get()} {number}"

    system.declare("named", body=body)


async def claim_is_lost(system: System) -> str:
    """Let W1 claim a task and begin its function; then Redis loses the claim. Return the task's id."""
    simulator = system.simulator
    named(system)
    api, one, other = system.api("A"), system.worker("W1"), system.worker("W2")
    await simulator.go()
    simulator.freeze(other)
    task = await system.submitted(api, "named")
    before = system.server.snapshot()
    await simulator.go(one)
    assert [str(run.process) for run in system.running] == ["W1"]
    simulator.lose_data(before)
    return task


async def works(system: System, name: str, pieces: int) -> None:
    """Let the function of this worker work so often, if it is not stopped before, and its worker append that."""
    for _ in range(pieces):
        process = next(each for each in system.processes if each.name == name)
        step = await system.simulator.find(lambda step: step.is_work, process)
        if step is not None:
            system.simulator.let(step)
        await system.simulator.go(process)


async def one_view(system: System, task: str) -> None:
    """Let the task end. A reader that heeds the marks has the output of one worker, as much as the end says."""
    simulator = system.simulator
    took = await simulator.come_true(lambda: system.end(task) is not None, 120)
    assert took is not None, "the task does not end"
    view = system.view(task)
    workers = {str(chunk).split()[0] for chunk in view}
    assert len(workers) <= 1, f"the outputs of two runs are mixed: {view}, {system.end(task)}"
    if system.end(task) == "done":
        assert len(view) == 4


@scheduled
async def test_a_claim_that_is_lost(system: System) -> None:
    """Redis loses a claim. The worker writes on; then another one claims the task. Their outputs are not mixed."""
    task = await claim_is_lost(system)
    await works(system, "W1", 2)
    system.simulator.wake(system.processes[2])
    await system.simulator.passes(2, system.processes[2])
    await system.simulator.passes(6)
    await one_view(system, task)


@scheduled
async def test_a_claim_that_is_lost_before_its_first_word(system: System) -> None:
    """The same; the other worker is the first to write."""
    task = await claim_is_lost(system)
    system.simulator.wake(system.processes[2])
    await system.simulator.passes(2, system.processes[2])
    await works(system, "W2", 1)
    await works(system, "W1", 1)
    await one_view(system, task)


@scheduled
async def test_a_crash_between_the_steps_of_a_submission(system: System) -> None:
    """Two APIs, to which a client sends the same request one after the other, die at any moment of it. Every task that
    is listed then starts, or ends.
    """
    simulator = system.simulator
    system.declare("quick", 1)
    rest, worker = system.api("C"), system.worker("W1")
    await simulator.go()
    for first_steps in range(5):
        for second_steps in range(7):
            for name, steps in (("A", first_steps), ("B", second_steps)):
                api = system.api(f"{name}{first_steps}{second_steps}")
                await simulator.go(api)
                api.submit("quick", key=f"k{first_steps}{second_steps}")
                for _ in range(steps):
                    await simulator.settle()
                    for step in simulator.ready(api)[:1]:
                        simulator.let(step)
                await simulator.settle()
                simulator.die(api)
    await simulator.passes(150, work=True)

    listed = rest.request("GET", "/tasks")
    await simulator.go(rest)
    tasks = listed.result().json["tasks"]
    assert tasks
    assert [task for task in tasks if task["status"] != "done"] == []
    assert worker.name == "W1"
