"""Taking a task: after this the lease owns it, and no other delivery of its id runs it.

In the same trip, let recovery look at the task when its lease is over, no longer when the queue should have been
faster; and see what stands in its log already.
"""

import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec

from plugins import entries, keys
from plugins.limits import Ticket
from services.worker.redis_client.batcher import Batcher
from services.worker.redis_client.retry import retry_transient

SCRIPT: Final = Path(__file__).with_name("claim.lua").read_text()

# Also where Redis is full: a claim that was granted must not be taken for one that was refused.
LOOK: Final = "#!lua flags=allow-oom\nreturn redis.call('ZADD', KEYS[1], 'XX', 'LT', ARGV[1], ARGV[2])"


class Claim(msgspec.Struct, frozen=True):
    """A task that is ours to run. `token` proves it at every renewal; `input` is JSON.

    `attempts` is how many there may be. `lease_until` is the first lease's end, in milliseconds by the server's clock;
    `asked_at` is when it was asked for, in seconds by our own monotonic one. `limit_key` is empty if there is none.
    `last` is what stood last in its log just after. `cancelled` says that it has been since.
    """

    task_id: str
    token: str
    attempt: int
    attempts: int
    function: str
    input: bytes
    lease_until: int
    asked_at: float
    limit_key: str
    last: entries.Entry | None
    cancelled: bool

    @property
    def ticket(self) -> Ticket:
        """What its gate knows it by."""
        return Ticket(self.task_id, self.attempt)


class Claims:
    """Takes tasks, for one worker."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._script = batcher.script(SCRIPT)
        self._look = batcher.script(LOOK)
        self._under_way: dict[str, str] = {}  # task ids by token

    def cancel(self, task_id: str) -> None:
        """Its cancel was heard: a claim that is under way may have come before it, and its answer comes after."""
        for token in [token for token, claimed in self._under_way.items() if claimed == task_id]:
            del self._under_way[token]

    async def take(
        self, task_id: str, worker: str, lease_s: float, admitted: int = 0, version: str = ""
    ) -> Claim | None:
        """Take the task, or None where another has it, it has ended, or it has no attempt left.

        `admitted` is the attempt that its gate has let in: a task that has a gate is taken for no other. `version` is
        that of the function that will run, which is noted: the task may have been submitted when there was another.

        While Redis is full, say, it asks again by the same token: the slot is kept, so that no more messages are read
        than there is room for.

        Raises:
            redis.exceptions.RedisError: a refusal that does not pass.
        """
        token = uuid4().hex
        args = [token, worker, int(lease_s * 1000), admitted, version]

        async def ask() -> tuple[float, list[Any]]:
            asked_at, due = time.monotonic(), int(time.time() + lease_s) + 1
            claim = self._script.command(keys=[keys.metadata(task_id)], args=args)
            # Only sooner than noted, so that it does no harm where the claim is refused, or our clock is slow: recovery
            # finds the lease, and notes when to look again.
            look = self._look.command(keys=[keys.OPEN], args=[due, task_id])
            answers = await self._batcher.execute([claim, look, ("LINDEX", keys.log(task_id), -1)])
            if answers[0] and (over := int(answers[0][4]) // 1000 + 1) < due - 1:  # our clock is fast
                await self._look(keys=[keys.OPEN], args=[over, task_id])
            return asked_at, answers

        self._under_way[token] = task_id
        try:
            asked_at, (answer, _, line) = await retry_transient("claim", ask, task_id=task_id)
        finally:
            cancelled = self._under_way.pop(token, None) is None
        if not answer:
            return None
        attempt, attempts, function, task_input, lease_until, limit_key = answer
        return Claim(
            task_id=task_id,
            token=token,
            attempt=int(attempt),
            attempts=int(attempts),
            function=function.decode(),
            input=task_input,
            lease_until=int(lease_until),
            asked_at=asked_at,
            limit_key=limit_key.decode(),
            last=entries.decode(line) if line else None,
            cancelled=cancelled,
        )
