"""Directed schedules: one Idempotency-Key has one task."""

import pytest

from plugins import keys
from tests.simulation.simulator import Verdict
from tests.simulation.system import ApiProcess, System, scheduled

pytestmark = pytest.mark.redis


async def is_refused(system: System, api: ApiProcess) -> None:
    """Let Redis be full when the command arrives that adds the message to the queue."""
    step = await system.simulator.until(lambda step: step.touches(keys.QUEUE), api)
    before = next(number for number, command in enumerate(step.commands) if keys.QUEUE in command)
    system.simulator.let(step, Verdict.FULL, commands=before)


@scheduled
async def test_a_refusal_that_is_repeated(system: System) -> None:
    """Redis refuses a task because it is full. Its request gives its key up, and repeats that because a reply was lost.
    The key of a later request stays: its client finds its task again.
    """
    simulator = system.simulator
    system.declare("limited", body=system.endless(), concurrency=1)
    api, other_api, worker = system.api("A"), system.api("B"), system.worker("W1")
    await simulator.go()
    simulator.freeze(worker)

    refused = api.submit("limited", key="k")
    await is_refused(system, api)
    forget = await simulator.find(lambda step: step.says("DEL", keys.idempotency("anonymous", "k")), api)
    if forget is not None:
        simulator.let(forget, Verdict.REPLY_LOST)
    task = await system.submitted(other_api, "limited", key="k")
    await simulator.passes(1, api)
    assert refused.result().status == 503
    assert await system.submitted(other_api, "limited", key="k") == task


@scheduled
async def test_a_refusal_that_is_late(system: System) -> None:
    """Redis refuses a task because it is full. Meanwhile the client's next request with that key is answered 202, and
    its function starts. The first request does not end that task.
    """
    simulator = system.simulator
    system.declare("long", body=system.endless())
    api, other_api, worker = system.api("A"), system.api("B"), system.worker("W1")
    await simulator.go()

    refused = api.submit("long", key="k")
    await is_refused(system, api)
    await simulator.find(lambda step: step.says("not_started"), api)
    task = await system.submitted(other_api, "long", key="k")
    await simulator.go(worker)
    assert system.runs(task)
    await simulator.go(api)
    assert refused.result().status == 503
    assert system.end(task) is None, f"{system.end(task)}, though its function runs"
    assert await system.submitted(other_api, "long", key="k") == task
