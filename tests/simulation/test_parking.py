"""Directed schedules: a parked ticket waits for a worker that can run it, and does not go round meanwhile."""

import pytest

from services.worker.queue.scans import MAX_IN_VAIN
from tests.simulation.simulator import Verdict
from tests.simulation.system import System, WorkerProcess, scheduled

pytestmark = pytest.mark.redis

# Seconds until a worker reads again after its connection has broken, and has looked at what is parked once more.
READS_AGAIN_S = 10


async def loses_its_read(system: System, worker: WorkerProcess) -> None:
    """Let its connection to the queue break. It reads again after a pause; all else that it does goes on."""
    read = await system.simulator.until(lambda step: step.says("XAUTOCLAIM"), worker)
    system.simulator.let(read, Verdict.NEVER_ARRIVED)


async def assert_begins(system: System, task_id: str) -> None:
    """The task is put on the queue a bounded number of times while the worker with room does not read, and then runs.

    The simulator ends a schedule that does not come to rest.
    """
    before = system.simulator.steps
    await system.simulator.go()
    assert system.simulator.steps - before < 20 * MAX_IN_VAIN
    assert not system.runs(task_id)
    took = await system.simulator.come_true(lambda: bool(system.runs(task_id)), READS_AGAIN_S, work=False)
    assert took is not None, "the task does not start"


@scheduled
async def test_a_worker_with_room_for_the_owner_cannot_read(system: System) -> None:
    """Another one, in which the owner has its share, reads what it requeues."""
    simulator = system.simulator
    system.declare("endless", body=system.endless())
    api, full = system.api("A"), system.worker("W1", slots=2, owner_slots=50)
    await simulator.go()
    await system.submitted(api, "endless")
    await simulator.go(full)
    assert len(system.running) == 1

    await loses_its_read(system, system.worker("W2", slots=2, owner_slots=50))
    await assert_begins(system, await system.submitted(api, "endless"))


@scheduled
async def test_a_worker_with_the_function_cannot_read(system: System) -> None:
    """Another one, which lacks the function, reads what it requeues."""
    system.declare("here", body=system.endless())
    api = system.api("A")
    system.worker("W1")
    await system.simulator.go()

    system.declare("elsewhere", body=system.endless())
    await loses_its_read(system, system.worker("W2"))
    await assert_begins(system, await system.submitted(api, "elsewhere"))


@scheduled
async def test_a_pause_while_a_ticket_goes_round(system: System) -> None:
    """The worker that cannot read hears of it at once: it starts nothing of that function when it reads again."""
    system.declare("here", body=system.endless())
    api = system.api("A")
    system.worker("W1")
    await system.simulator.go()

    system.declare("elsewhere", body=system.endless())
    worker = system.worker("W2")
    await loses_its_read(system, worker)
    await system.submitted(api, "elsewhere")
    await system.simulator.go()
    api.request("PUT", "/functions/elsewhere/paused")
    await system.simulator.go()
    assert worker.worker is not None
    assert worker.worker.parking.reason("elsewhere") == "function paused"
