"""Taking a task: after this the lease owns it, and no other delivery of its id runs it."""

import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec

from plugins import keys
from plugins.gate import Ticket
from services.worker.patience import patiently
from services.worker.trips import Script

SCRIPT: Final = Path(__file__).with_name("claim.lua").read_text()


class Claim(msgspec.Struct, frozen=True):
    """A task that is ours to run. `token` proves it at every renewal; `input` is JSON.

    `attempts` is how many there may be. `lease_until` is the first lease's end, in milliseconds by the server's clock;
    `asked_at` is when it was asked for, in seconds by our own monotonic one. `gate` is empty where there is none.
    """

    task_id: str
    token: str
    attempt: int
    attempts: int
    function: str
    input: bytes
    lease_until: int
    asked_at: float
    gate: str = ""

    @property
    def ticket(self) -> Ticket:
        """What its gate knows it by."""
        return Ticket(self.task_id, self.attempt)


async def claim(
    script: Script, task_id: str, worker: str, lease_s: float, admitted: int = 0, version: str = ""
) -> Claim | None:
    """Take the task, or None where another has it, it has ended, or it has no attempt left.

    `admitted` is the attempt that its gate has let in: a task that has a gate is taken for no other. `version` is that
    of the function that will run, which is noted: the task may have been submitted when there was another.

    While Redis is full, say, it asks again by the same token: the slot is kept, so that no more messages are read than
    there is room for.

    Raises:
        redis.exceptions.RedisError: a refusal that does not pass.
    """
    token = uuid4().hex

    async def take() -> tuple[float, Any]:
        asked_at = time.monotonic()
        args = [token, worker, int(lease_s * 1000), admitted, version]
        return asked_at, await script(keys=[keys.metadata(task_id)], args=args)

    asked_at, answer = await patiently("claim", take, task_id=task_id)
    if not answer:
        return None
    attempt, attempts, function, task_input, lease_until, gate = answer
    return Claim(
        task_id,
        token,
        int(attempt),
        int(attempts),
        function.decode(),
        task_input,
        int(lease_until),
        asked_at,
        gate.decode(),
    )
