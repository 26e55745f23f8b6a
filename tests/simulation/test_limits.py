"""Directed schedules: no limit is exceeded, and no place is kept by what does not run."""

import pytest

from plugins import keys
from tests.simulation.simulator import Verdict
from tests.simulation.system import ApiProcess, System, scheduled

pytestmark = pytest.mark.redis

# Seconds until the next task begins after a worker has died: a lease, a scan, and a few more.
LEASE_AND_SCAN_S = 25


def limited(system: System) -> None:
    """Declare a function of which one may run at a time."""
    system.declare("limited", body=system.endless(), concurrency=1, retries=1)


@scheduled
async def test_a_cancel_that_meets_a_claim(system: System) -> None:
    """A DELETE has read that the task is queued; then a worker claims it. As long as the function runs, because the
    worker has not been told yet, the next task does not start.
    """
    simulator = system.simulator
    limited(system)
    api, one, other = system.api("A"), system.worker("W1"), system.worker("W2")
    await simulator.go()
    first, second = [await system.submitted(api, "limited") for _ in range(2)]

    cancel = api.cancel(first)
    end = await simulator.until(lambda step: step.says('{"event":"cancelled"'), api)
    await simulator.go(one)
    assert [run.task_id for run in system.running] == [first]
    assert not end.answered.done()
    await simulator.go(api, messages=False)
    assert cancel.done()
    assert cancel.result().json["status"] == "cancelled"
    await simulator.go(other, messages=False)
    assert system.most["limited"] == 1

    took = await simulator.come_true(lambda: bool(system.runs(second)), LEASE_AND_SCAN_S, work=False)
    assert took is not None, "the next task does not start"
    assert system.most["limited"] == 1
    assert system.end(first) == "cancelled"


@scheduled
async def test_a_cancel_whose_api_dies(system: System) -> None:
    """The API that wrote the cancel died before it told the worker. Recovery does not start the next task beside the
    cancelled function, and sees to it that the function stops.
    """
    simulator = system.simulator
    limited(system)
    api, _, one, _ = system.api("A"), system.api("B"), system.worker("W1"), system.worker("W2")
    await simulator.go()
    first, second = [await system.submitted(api, "limited") for _ in range(2)]
    await simulator.go(one)
    await simulator.passes(13)
    assert [run.task_id for run in system.running] == [first]

    api.cancel(first)
    simulator.let(await simulator.until(lambda step: step.says('{"event":"cancelled"'), api))
    for connection in simulator.deliverable:
        simulator.deliver(connection, lost=True)
    simulator.die(api)

    took = await simulator.come_true(lambda: bool(system.runs(second)), LEASE_AND_SCAN_S, work=False)
    assert took is not None, "the next task does not start"
    assert system.most["limited"] == 1
    assert system.end(first) == "cancelled"


@scheduled
async def test_a_cancel_after_the_worker_died(system: System) -> None:
    """A worker is killed, and its task cancelled at once. The next task starts when the dead worker's lease is over."""
    simulator = system.simulator
    limited(system)
    api, one, other = system.api("A"), system.worker("W1"), system.worker("W2")
    await simulator.go()
    first, second = [await system.submitted(api, "limited") for _ in range(2)]
    await simulator.go(one)
    await simulator.passes(2)
    (run,) = system.running
    simulator.die(run.process)

    cancel = api.cancel(first)
    await simulator.go(api)
    assert cancel.result().json["status"] == "cancelled"
    took = await simulator.come_true(lambda: bool(system.runs(second)), 120, work=False)
    assert took is not None
    assert took <= LEASE_AND_SCAN_S, f"the next task starts after {took} s"
    assert one.dead != other.dead


@scheduled
async def test_a_repeated_request_that_is_late(system: System) -> None:
    """A client repeats its POST with its key. Before that request is handled to its end, the task is over. It keeps no
    place at the limit: the next task starts at once.
    """
    simulator = system.simulator
    system.declare("quick", 1, concurrency=1)
    api, other_api, worker = system.api("A"), system.api("B"), system.worker("W1")
    await simulator.go()
    first = await system.submitted(api, "quick", key="k")

    again = other_api.submit("quick", key="k")
    simulator.let(await simulator.until(lambda step: step.touches(keys.metadata(first)), other_api))
    await simulator.go(worker, work=True)
    assert system.end(first) == "done"
    await simulator.go(other_api)
    assert again.result().json["task_id"] == first
    await simulator.go(worker, work=True)

    second = await system.submitted(api, "quick")
    took = await simulator.come_true(lambda: system.end(second) == "done", 120)
    assert took is not None
    assert took < 10, f"the next task ends after {took} s"


@scheduled
async def test_a_recovery_that_is_late(system: System) -> None:
    """Recovery has read that a task is queued; then it is cancelled. It keeps no place at the limit."""
    simulator = system.simulator
    limited(system)
    api, other_api = system.api("A"), system.api("B")
    worker = system.worker("W1")
    await simulator.go()
    simulator.freeze(worker)
    first = await system.submitted(api, "limited")
    await simulator.passes(58, api, other_api)
    simulator.freeze(api)
    looked = None
    while looked is None:
        looked = await simulator.find(lambda step: step.touches(keys.metadata(first)), other_api)
        if looked is None:
            simulator.advance(0.5)
    simulator.let(looked)
    await simulator.settle()
    simulator.wake(api)
    cancel = api.cancel(first)
    await simulator.go(api)
    assert cancel.result().json["status"] == "cancelled"
    await simulator.go(other_api)
    simulator.wake(worker)
    await simulator.go(worker)

    second = await system.submitted(api, "limited")
    took = await simulator.come_true(lambda: bool(system.runs(second)), 120, work=False)
    assert took is not None
    assert took < 10, f"the next task starts after {took} s"


@scheduled
async def test_a_submission_whose_commands_are_late(system: System) -> None:
    """Any command of a submission is held up, and sent again. It arrives when the task is over. The task keeps no place
    at the limit: the next one starts at once.
    """
    simulator, commands = system.simulator, 6
    for number in range(commands):
        system.declare(f"quick{number}", 1, concurrency=1)
    api = system.api("A")
    system.worker("W1")
    await simulator.go()
    for number in range(commands):
        request = api.submit(f"quick{number}")
        await goes_on(system, api, number)
        for step in simulator.ready(api)[:1]:
            simulator.let(step, Verdict.LATER)
        assert await simulator.come_true(request.done, 5) is not None
        await simulator.go(work=True)
        while simulator.strays:
            simulator.arrive()
        await simulator.go(work=True)

        took = await until_done(system, await system.submitted(api, f"quick{number}"))
        assert took < 10, f"the next task ends after {took} s, command {number} was late"


@scheduled
async def test_a_task_that_is_lost_keeps_no_place(system: System) -> None:
    """Redis loses its last second at any moment of a submission, and with it the task. The task keeps no place at the
    limit: the next one starts at once.
    """
    simulator, commands = system.simulator, 6
    for number in range(commands):
        system.declare(f"quick{number}", 1, concurrency=1)
    api = system.api("A")
    system.worker("W1")
    await simulator.go()
    for number in range(commands):
        before = system.server.snapshot()
        request = api.submit(f"quick{number}")
        await goes_on(system, api, number)
        simulator.lose_data(before)
        assert await simulator.come_true(request.done, 5) is not None
        await simulator.passes(5, work=True)

        took = await until_done(system, await system.submitted(api, f"quick{number}"))
        assert took < 10, f"the next task ends after {took} s, the loss was after {number} commands"


async def goes_on(system: System, api: ApiProcess, commands: int) -> None:
    """Let so many commands of an API go, one by one."""
    for _ in range(commands):
        await system.simulator.settle()
        for step in system.simulator.ready(api)[:1]:
            system.simulator.let(step)
    await system.simulator.settle()


async def until_done(system: System, task: str) -> float:
    """Let all processes go on until the task is done; the seconds that took."""
    took = await system.simulator.come_true(lambda: system.end(task) == "done", 120)
    assert took is not None
    return took
