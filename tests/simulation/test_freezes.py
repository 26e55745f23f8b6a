"""Directed schedules: pauses, deaths and clocks that must not be taken for something else."""

from collections.abc import AsyncIterator

import pytest

from plugins import Context, keys
from tests.simulation.simulator import Verdict
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


@scheduled
async def test_a_stale_look_hides_no_death(system: System) -> None:
    """Recovery has read that a task is queued, and has been for long; then a worker claims the task and dies. The death
    is noticed as soon as any other.
    """
    simulator = system.simulator
    system.declare("again", body=system.endless(), retries=1)
    api = system.api("A")
    worker = system.worker("W1")
    await simulator.go()
    simulator.freeze(worker)
    task = await system.submitted(api, "again")
    await simulator.passes(590, api)
    look = None
    while look is None:
        look = await simulator.find(lambda step: step.touches(keys.metadata(task)), api)
        if look is None:
            simulator.advance(0.5)
    simulator.let(look)
    await simulator.settle()
    simulator.wake(worker)
    await simulator.go(worker)
    assert system.runs(task)
    await simulator.go(api)
    simulator.die(worker)

    took = await simulator.come_true(lambda: system.field(task, "status") == "queued", 2_000)
    assert took is not None
    assert took <= 30, f"noticed after {took} s"
    system.worker("W2")
    assert await simulator.come_true(lambda: bool(system.runs(task)), 5, work=False) is not None


@scheduled
async def test_one_unreadable_task(system: System) -> None:
    """The metadata of one task is of a wrong type. The other tasks of its worker go on, and end well."""
    simulator = system.simulator
    system.declare("long", 3)
    api, _ = system.api("A"), system.worker("W1")
    await simulator.go()
    unreadable, readable = [await system.submitted(api, "long") for _ in range(2)]
    await simulator.go()
    system.server.call("DEL", keys.metadata(unreadable))
    system.server.call("SET", keys.metadata(unreadable), "no hash")
    await simulator.passes(60)

    took = await simulator.come_true(lambda: system.end(readable) is not None, 10)
    assert took is not None, "it does not end"
    assert system.end(readable) == "done"
    assert system.begun[readable, 1] == 1


@scheduled
async def test_parked_tasks_keep_their_order(system: System) -> None:
    """Tasks of a paused function are read by workers whose clocks differ by some seconds. Resumed, they start in the
    order in which they were submitted.
    """
    simulator = system.simulator
    system.declare("paused", 1)
    api, workers = system.api("A"), [system.worker("W1", 1, skew=5), system.worker("W2", 1)]
    await simulator.go()
    pause = api.request("PUT", "/functions/paused/paused")
    await simulator.go()
    assert pause.result().status < 300
    tasks = []
    for number in range(6):
        tasks.append(await system.submitted(api, "paused"))
        await simulator.go(workers[number % 2])
        simulator.advance(0.5)
    order: list[str] = []
    system.on_begin = lambda run: order.append(run.task_id)
    simulator.die(workers[0])
    api.request("DELETE", "/functions/paused/paused")
    assert await simulator.come_true(lambda: len(order) == 6, 30) is not None
    assert order == tasks


@scheduled
async def test_an_api_whose_clock_is_fast(system: System) -> None:
    """An API's clock is an hour ahead, and the queue loses the message of a task that it has accepted. The task starts
    as soon as any other would.
    """
    simulator = system.simulator
    system.declare("quick", 1)
    fast, _ = system.api("A", skew=3_600), system.api("B")
    worker = system.worker("W1")
    await simulator.go()
    simulator.freeze(worker)
    task = await system.submitted(fast, "quick")
    system.server.call("XTRIM", keys.QUEUE, "MAXLEN", 0)
    simulator.wake(worker)
    took = await simulator.come_true(lambda: system.end(task) == "done", 200)
    assert took is not None
    assert took <= 75, f"{took} s"


@scheduled
async def test_a_claim_that_arrives_twice(system: System) -> None:
    """A claim is held up on its way, and sent again. The function fails, and its task waits for the next attempt; then
    the first claim arrives. The task is not `running` again, and the next attempt starts after its back-off.
    """
    simulator = system.simulator
    attempts: list[int] = []

    async def body(context: Context) -> AsyncIterator[int]:
        attempts.append(context.attempt)
        yield 1
        if context.attempt == 1:
            raise ValueError("once")

    system.declare("fails", body=body, retries=1, backoff=2)
    api, worker = system.api("A"), system.worker("W1")
    await simulator.go()
    task = await system.submitted(api, "fails")
    simulator.let(await simulator.until(lambda step: step.touches(keys.metadata(task)), worker), Verdict.LATER)
    held_up = len(simulator.strays) - 1
    assert await simulator.come_true(lambda: attempts == [1], 5, work=False) is not None
    await simulator.go()
    simulator.arrive(held_up)
    assert (await system.told(api, task))["status"] == "queued"
    took = await simulator.come_true(lambda: system.end(task) == "done", 60)
    assert took is not None
    assert took <= 2 + 10, f"{took} s"
    assert attempts == [1, 2]


@scheduled
async def test_the_clock_of_redis_steps_ahead(system: System) -> None:
    """Redis' clock is set ahead by an hour. No task of a living worker is taken from it."""
    simulator = system.simulator
    system.declare("long")
    system.declare("again", retries=1)
    apis = [system.api("A"), system.api("B")]
    for name in ("W1", "W2"):
        system.worker(name)
    await simulator.go()
    tasks = [await system.submitted(apis[0], name) for name in ("long", "again") * 2]
    await simulator.passes(32)
    system.server.offset += 3_600
    for _ in range(4):  # the APIs are the first to act
        simulator.advance(1)
        await simulator.go(*apis)
    await simulator.passes(40)
    assert [system.end(task) for task in tasks] == [None] * 4
    await simulator.passes(5, work=True)
    assert [system.end(task) for task in tasks] == ["done"] * 4
    assert set(system.begun.values()) == {1}


@scheduled
async def test_the_clock_of_redis_steps_back(system: System) -> None:
    """Redis' clock is set back by ten minutes. Tasks of living workers go on, and new ones start. A worker's death is
    noticed when the clock is where it was, and a lease and a scan later.
    """
    simulator = system.simulator
    system.declare("long")
    system.declare("again", body=system.endless(), retries=1)
    api, worker = system.api("A"), system.worker("W1")
    await simulator.go()
    task = await system.submitted(api, "long")
    dies = await system.submitted(api, "again")
    await simulator.passes(12)
    system.server.offset -= 600
    await simulator.passes(20)
    fresh = await system.submitted(api, "long")
    await simulator.go()
    assert system.runs(fresh)
    for _ in range(20):
        for step in [step for step in simulator.ready(worker) if step.is_work and f"{dies[:4]}:" not in step.words]:
            simulator.let(step)
        await simulator.go()
    assert [system.end(task), system.end(fresh)] == ["done", "done"]

    simulator.die(worker)
    system.worker("W2")
    took = await simulator.come_true(lambda: bool(system.runs(dies)), 700, work=False)
    assert took is not None, "its death is not noticed"


@scheduled
async def test_a_worker_dies_while_it_unparks(system: System) -> None:
    """A function is resumed, and the worker that requeues its parked tasks dies at any step of that. Each task runs
    once, and soon.
    """
    for steps in range(6):
        await _dies_while_it_unparks(system, f"paused{steps}", steps)


async def _dies_while_it_unparks(system: System, name: str, steps: int) -> None:
    simulator = system.simulator
    system.declare(name, 1)
    api, first = system.api(f"A{steps}"), system.worker(f"W{steps}")
    await simulator.go()
    api.request("PUT", f"/functions/{name}/paused")
    await simulator.go()
    tasks = [await system.submitted(api, name) for _ in range(3)]
    await simulator.go()
    assert system.server.call("ZCARD", keys.parked(name)) == 3

    api.request("DELETE", f"/functions/{name}/paused")
    await simulator.go(api)
    for number in range(steps):
        await simulator.settle()
        for step in simulator.ready(first)[:1]:
            cut = number == steps - 1 and step.says("XADD")
            simulator.let(step, Verdict.CUT if cut else Verdict.GO, commands=2)
    simulator.die(first)

    last = system.worker(f"X{steps}")
    took = await simulator.come_true(lambda: all(system.end(task) == "done" for task in tasks), 130)
    assert took is not None, [system.end(task) for task in tasks]
    await simulator.passes(10, work=True)
    assert [sum(count for (task, _), count in system.begun.items() if task == each) for each in tasks] == [1] * 3
    assert system.server.call("ZCARD", keys.parked(name)) == 0
    simulator.die(last)
    simulator.die(api)
