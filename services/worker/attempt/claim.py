"""Claim a task: after this the lease owns it, and no other delivery of its id runs it.

The same step lets recovery scan the task when its lease expires, instead of when the queue should have delivered it.
The same batch reads the last entry of its log.
"""

import time
from typing import Any, Final
from uuid import uuid4

import msgspec

from plugins import entries, keys, scripts
from plugins.limits import Ticket
from services.worker.redis_client.batcher import Batcher, script_call
from services.worker.redis_client.retry import retry_transient

SCRIPT: Final = scripts.read("claim.lua", __file__)


class Claim(msgspec.Struct, frozen=True):
    """A task that this worker has claimed. `token` proves it at every renewal; `input` is JSON, None if Redis has lost
    it.

    `attempts` is the maximum number of attempts. `lease_until` is the end of the first lease, in milliseconds by the
    server's clock; `asked_at` is when the claim was sent, in seconds by this machine's monotonic clock. `limit_key` is
    empty if there is none, and `owner` if Redis has lost it. `last` is the last entry of the log just after the claim.
    `cancelled` says that a cancel has arrived since.
    """

    task_id: str
    token: str
    attempt: int
    attempts: int
    function: str
    input: bytes | None
    lease_until: int
    asked_at: float
    limit_key: str
    owner: str
    last: entries.Entry | None
    cancelled: bool

    @property
    def logged(self) -> dict[str, Any]:
        """The fields of log lines about this attempt."""
        return {"task_id": self.task_id, "function": self.function, "attempt": self.attempt}

    @property
    def ticket(self) -> Ticket:
        """The ticket of this attempt at its limit."""
        return Ticket(self.task_id, self.attempt)


class Claims:
    """Claims tasks, for one worker."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._pending: dict[str, str] = {}  # task ids by token

    def cancel(self, task_id: str) -> None:
        """Apply a cancel to pending claims: it may arrive between a claim and the reply to it."""
        for token in [token for token, pending_id in self._pending.items() if pending_id == task_id]:
            del self._pending[token]

    async def take(
        self, task_id: str, worker: str, lease_s: float, admitted: int = 0, version: str = ""
    ) -> Claim | None:
        """Claim the task. Return None if another worker has it, if it has ended, or if it has no attempt left.

        `admitted` is the attempt that its limit has admitted: a task that has a limit is claimed for no other.
        `version` is that of the function that will run. It is recorded, because the task may have been submitted when
        the function had another.

        While Redis refuses for now, for example because it is full, the claim is sent again with the same token. Its
        slot is kept, so that no more messages are read than there is room for.

        Raises:
            redis.exceptions.RedisError: an error that is not transient.
        """
        token = uuid4().hex
        args = [token, worker, int(lease_s * 1000), admitted, version, task_id]

        async def send() -> tuple[float, list[Any]]:
            asked_at = time.monotonic()
            claim = script_call(SCRIPT, [keys.metadata(task_id), keys.OPEN, keys.task_input(task_id)], args)
            return asked_at, await self._batcher.execute([claim, ("LINDEX", keys.log(task_id), -1)])

        self._pending[token] = task_id
        try:
            asked_at, (answer, line) = await retry_transient("claim", send, task_id=task_id)
        finally:
            cancelled = self._pending.pop(token, None) is None
        if not answer:
            return None
        attempt, attempts, function, task_input, lease_until, limit_key, owner = answer
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
            owner=owner.decode(),
            last=entries.decode(line) if line else None,
            cancelled=cancelled,
        )
