"""The writer of one task's log: it takes chunks one by one, and appends them in groups, without a timer.

While one append is in flight, further chunks collect in a bounded buffer and form the next append. A full buffer makes
the function wait: that is the back pressure. The last chunks and the end are appended together.
"""

import asyncio
from collections import deque
from typing import Any, Final

from plugins import append, entries
from plugins.event import named
from plugins.function import Policy
from services.worker.attempt.commands import Commands
from services.worker.attempt.lease import Lease
from services.worker.redis_client.retry import retry_transient

# The buffer's bounds. Two full appends in entries; enough bytes that big chunks travel together, few enough that a
# hundred running tasks fit a small container.
MAX_BUFFERED: Final = 2 * append.MAX_ENTRIES
MAX_BUFFERED_BYTES: Final = 1_048_576

# The longest entry, in bytes. A reader's window, a page and an append all hold whole entries.
MAX_ENTRY_BYTES: Final = 262_144


class RefusedError(Exception):
    """The write rule refused an append: `refusal` says why."""

    def __init__(self, refusal: append.Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


class ClosedError(Exception):
    """The log has its end, or another worker writes it: a function that was stopped has yielded once more."""


class LimitError(Exception):
    """A chunk would exceed a limit of the log: the message says which one."""


class Log:
    """Appends to one log for one attempt. One task feeds it (`chunk`, `end`), one task empties it (`flush`)."""

    def __init__(self, commands: Commands, lease: Lease, policy: Policy | None, length: int) -> None:
        self._commands = commands
        self._lease = lease
        self._claim = lease.claim
        self._policy = policy
        self._length = length  # what Redis has acknowledged
        self._next = length  # the seq of the next entry
        self._buffer: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._ended = False
        self._has_end = False  # the last entry in the buffer, or behind it, is the task's end
        self._closed = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self.chunks = 0  # that readers keep
        self.size = 0  # bytes of their entries

    async def chunk(self, chunk: Any) -> None:
        """Put one chunk into the buffer, then wait while that is full.

        If the wait is cancelled, the log has the chunk nevertheless.

        Raises:
            entries.NotJSONError: the chunk is not JSON.
            LimitError: its entry is longer than `MAX_ENTRY_BYTES`, or one more than the policy allows.
            ClosedError: the log was closed, or `flush` has ended.
        """
        event, data = named(chunk)
        line = entries.encode(event, self._claim.attempt, self._next, entries.now_ms(), data)
        self._refuse_beyond_limits(line)
        self._refuse_if_closed()
        self._put(line)
        self.chunks += 1
        self.size += len(line)
        while len(self._buffer) > MAX_BUFFERED or self._buffered_bytes > MAX_BUFFERED_BYTES:
            self._room.clear()
            await self._room.wait()
            self._refuse_if_closed()

    def end(self, event: str, data: dict[str, Any]) -> None:
        """Put the end behind the buffered chunks, and close."""
        self._put(entries.encode(event, self._claim.attempt, self._next, entries.now_ms(), data))
        self._has_end = True
        self.close()

    def close(self) -> None:
        """Accept nothing more. `flush` returns once everything in the buffer is appended."""
        self._ended = True
        self._more.set()

    def _refuse_beyond_limits(self, line: bytes) -> None:
        assert self._policy is not None
        if len(line) > MAX_ENTRY_BYTES:
            raise LimitError(f"chunk {self.chunks} has {len(line)} bytes, more than {MAX_ENTRY_BYTES}")
        if self.chunks >= self._policy.max_chunks:
            raise LimitError(f"more than {self._policy.max_chunks} chunks")
        if self.size + len(line) > self._policy.max_bytes:
            raise LimitError(f"more than {self._policy.max_bytes} bytes, with chunk {self.chunks}")

    def _refuse_if_closed(self) -> None:
        if self._closed or self._ended:
            raise ClosedError

    def _put(self, line: bytes) -> None:
        self._buffer.append(line)
        self._buffered_bytes += len(line)
        self._next += 1
        self._more.set()

    async def flush(self) -> None:
        """Append the buffer, group by group, until the log is closed and the buffer is empty.

        Raises:
            RefusedError: another attempt writes the log, or it is closed, or shorter than it was.
        """
        try:
            while not (self._ended and not self._buffer):
                await self._more.wait()
                self._more.clear()
                while self._buffer:
                    await self._append_group()
        finally:
            self._closed = True
            self._room.set()

    async def _append(self, group: list[bytes]) -> int:
        if not await self._lease.confirm():
            return append.Refusal.FENCED
        claim = self._claim
        if self._has_end and not self._buffer:
            return await self._commands.append_end(claim, self._length, *group)
        arguments = append.arguments(claim.task_id, self._length, claim.attempt, *group, claim=claim.token)
        return int(await self._commands.batcher.run_script(append.SCRIPT, **arguments))

    async def _append_group(self) -> None:
        group = [self._buffer.popleft() for _ in range(min(len(self._buffer), append.MAX_ENTRIES))]
        # While Redis refuses for now, for example because it is full, the function waits for room in the buffer.
        answer = await retry_transient("append", lambda: self._append(group), task_id=self._claim.task_id)
        if answer < 0:
            raise RefusedError(append.Refusal(answer))
        self._length = answer
        # Only now: a group in flight still counts against the bound.
        self._buffered_bytes -= sum(map(len, group))
        self._room.set()
