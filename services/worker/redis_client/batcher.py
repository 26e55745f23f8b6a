"""Batches the commands of all tasks of this worker: one round trip to Redis for many of them.

A call that arrives during a round trip waits, and goes into the next batch together with the other calls that have
arrived meanwhile. A hundred busy tasks need hardly more round trips than one. Batching is fair: calls are sent in the
order of their arrival, while redis-py's pool hands a freed connection to whichever caller is quickest. A full batch
does not wait for the one in flight: this process packs or unpacks one while Redis works at the other. A second batch
that is not full would cost as much as a full one, and leave less for the next.

Every command must be repeatable: a batch whose answer was lost is sent again.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, RedisError

MAX_IN_FLIGHT: Final = 2

# Iterations of the event loop that a batch waits for, as long as each brings more calls: tasks that are woken in the
# same iteration make their next calls in the same iteration.
COALESCE_TICKS: Final = 4

# The approximate size of a batch: arguments of all commands, and KiB. A thousand entries keep Redis busy for some
# milliseconds; and a batch that a slow network does not carry within the client's time-out would never arrive.
MAX_BATCH_SIZE: Final = 1_024

Command = tuple[Any, ...]


class Call:
    """Commands of one task, which stay together, and the future of their answers."""

    __slots__ = ("answers", "commands", "size")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands: Final = commands
        self.size: Final = sum(map(size_of, commands))
        self.answers: Final[asyncio.Future[list[Any]]] = asyncio.get_running_loop().create_future()


class Batcher:
    """Takes calls, and sends them in batches."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: deque[Call] = deque()
        self._waiting_size = 0
        self.in_flight: set[asyncio.Task[None]] = set()  # batches

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Send these commands, in this order and without other calls' between them, and return their answers.

        Raises:
            redis.exceptions.RedisError: the first error of a command; or Redis did not answer for as long as the
                client's retries last.
        """
        call = Call(commands)
        self._waiting.append(call)
        self._waiting_size += call.size
        self._flush()
        answers = await call.answers
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    async def run_script(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run this script, and return its answer."""
        (answer,) = await self.execute([script_call(script, keys, args)])
        return answer

    def stop(self) -> None:
        """Send no more batches, and cancel all waiting calls."""
        for call in self._waiting:
            call.answers.cancel()
        for batch in self.in_flight:
            batch.cancel()

    def _flush(self) -> None:
        in_flight = len(self.in_flight)
        if self._waiting and (not in_flight or (in_flight < MAX_IN_FLIGHT and self._waiting_size >= MAX_BATCH_SIZE)):
            batch = asyncio.create_task(self._run_batch())
            self.in_flight.add(batch)
            batch.add_done_callback(self._batch_done)

    def _batch_done(self, batch: asyncio.Task[None]) -> None:
        self.in_flight.discard(batch)
        self._flush()

    async def _run_batch(self) -> None:
        await self._coalesce()
        calls = self._next_batch()
        try:
            await self._send_batch(calls)
        except Exception as error:  # noqa: BLE001  # every waiting caller gets the error, and knows what to make of it
            for call in calls:
                if not call.answers.done():
                    call.answers.set_exception(error)
        finally:
            for call in calls:
                call.answers.cancel()  # without effect, unless the batch itself was cancelled

    async def _coalesce(self) -> None:
        seen = 0
        for _ in range(COALESCE_TICKS):
            if len(self._waiting) == seen:
                return
            seen = len(self._waiting)
            await asyncio.sleep(0)

    def _next_batch(self) -> list[Call]:
        """Pop the oldest calls up to `MAX_BATCH_SIZE`, skipping cancelled ones."""
        calls: list[Call] = []
        size = 0
        while self._waiting and size < MAX_BATCH_SIZE:
            call = self._waiting.popleft()
            self._waiting_size -= call.size
            if not call.answers.done():
                calls.append(call)
                size += call.size
        return calls

    async def _send_batch(self, calls: list[Call]) -> None:
        answers = await self._pipeline(calls)
        refused = [call for call in calls if any(isinstance(answer, ReadOnlyError) for answer in answers[call])]
        if refused:
            # This server became a replica: the same name leads to the new master.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            answers |= await self._pipeline(refused)
        for call in calls:
            if not call.answers.done():
                call.answers.set_result(answers[call])

    async def _pipeline(self, calls: list[Call]) -> dict[Call, list[Any]]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for call in calls:
                for command in call.commands:
                    pipeline.execute_command(*command)
            answers = iter(await pipeline.execute(raise_on_error=False))
        return {call: list(islice(answers, len(call.commands))) for call in calls}


def script_call(script: str, keys: Sequence[Any], args: Sequence[Any]) -> Command:
    """Return the command that runs this script."""
    return ("EVAL", script, len(keys), *keys, *args)


def size_of(command: Command) -> int:
    """Return the number of arguments and KiB. Only bytes are measured: the rest is names and numbers."""
    return len(command) + sum([len(part) for part in command if isinstance(part, bytes)]) // 1_024
