"""Round trips to Redis that all tasks of this worker share.

What one task asks for while a trip is under way waits, and goes with what others ask for as the next trip. A hundred
busy tasks cost hardly more trips than one; and everybody's call goes in its turn, where a pool of connections would
serve who is quickest. What makes a full trip need not wait: one is packed or unpacked here while Redis works at the
other. A half-empty one would only cost as much as a full one, and leave less for the next.

What is asked for must be what may be asked twice: a trip whose answer was lost is made again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

AT_ONCE: Final = 2

# Rounds of the loop that a trip waits for, as long as each brings more: tasks that were told something in the same
# round ask for the next thing in the same round.
ROUNDS: Final = 4

# How large a trip is, about: arguments of all commands, and KiB. A thousand entries keep Redis for some milliseconds;
# and what a slow network does not carry within the client's time-out, it never would.
MOST: Final = 1_024

Command = tuple[Any, ...]

# What `redis.register_script` makes, or a `SharedScript`.
Script = Callable[..., Awaitable[Any]]


class SharedScript:
    """A script whose calls share the trips: alone, or as one of several commands."""

    def __init__(self, trips: "Trips", sha: str) -> None:
        self._trips = trips
        self._sha = sha

    def command(self, keys: Sequence[Any], args: Sequence[Any]) -> Command:
        """The command that calls it."""
        return ("EVALSHA", self._sha, len(keys), *keys, *args)

    async def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Its answer.

        Raises:
            redis.exceptions.RedisError: as `Trips.go` does.
        """
        (answer,) = await self._trips.go([self.command(keys, args)])
        return answer


class Call:
    """Commands of one task, which go together, and where their answers come."""

    __slots__ = ("answers", "commands", "size")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands: Final = commands
        self.size: Final = sum(map(size_of, commands))
        self.answers: Final[asyncio.Future[list[Any]]] = asyncio.get_running_loop().create_future()

    @property
    def done(self) -> bool:
        """Whether nobody waits for the answers any more."""
        return self.answers.done()


class Trips:
    """Takes calls, and makes trips of them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._texts: list[str] = []
        self._waiting: deque[Call] = deque()
        self._size = 0  # of what waits
        self._under_way: set[asyncio.Task[None]] = set()

    def script(self, text: str) -> SharedScript:
        """A script to call with `keys` and `args`, like what `redis.register_script` makes; it shares the trips."""
        self._texts.append(text)
        return SharedScript(self, self._redis.register_script(text).sha)

    async def go(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to these commands, which go in this order, without others' between them.

        Raises:
            redis.exceptions.RedisError: the first that Redis refused; or Redis did not answer for as long as the
                client's retries last.
        """
        call = Call(commands)
        self._waiting.append(call)
        self._size += call.size
        self._depart()
        answers = await call.answers
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    @property
    def under_way(self) -> int:
        """How many trips there are now."""
        return len(self._under_way)

    def leave(self) -> None:
        """Make no more trips. Who still waits for one is cancelled."""
        for call in self._waiting:
            call.answers.cancel()
        for trip in self._under_way:
            trip.cancel()

    def _depart(self) -> None:
        under_way = len(self._under_way)
        if self._waiting and (not under_way or (under_way < AT_ONCE and self._size >= MOST)):
            trip = asyncio.create_task(self._trip())
            self._under_way.add(trip)
            trip.add_done_callback(self._arrived)

    def _arrived(self, trip: asyncio.Task[None]) -> None:
        self._under_way.discard(trip)
        self._depart()

    async def _trip(self) -> None:
        await self._gather()
        calls = self._load()
        try:
            await self._make(calls)
        except Exception as error:  # noqa: BLE001  # those who wait must hear of it, and know what to make of it
            for call in calls:
                if not call.done:
                    call.answers.set_exception(error)
        finally:
            for call in calls:
                call.answers.cancel()  # without effect, unless the trip itself was cancelled

    async def _gather(self) -> None:
        seen = 0
        for _ in range(ROUNDS):
            if len(self._waiting) == seen:
                return
            seen = len(self._waiting)
            await asyncio.sleep(0)

    def _load(self) -> list[Call]:
        """Who has waited longest, as many as make a trip; not who waits no longer."""
        calls: list[Call] = []
        size = 0
        while self._waiting and size < MOST:
            call = self._waiting.popleft()
            self._size -= call.size
            if not call.done:
                calls.append(call)
                size += call.size
        return calls

    async def _make(self, calls: list[Call]) -> None:
        answers = await self._send(calls)
        for mend in (self._leave_replica, self._load_scripts):
            answers |= await self._send(await mend(calls, answers))
        for call in calls:
            if not call.done:
                call.answers.set_result(answers[call])

    async def _leave_replica(self, calls: list[Call], answers: dict[Call, list[Any]]) -> list[Call]:
        """A server that became a replica is left: behind the same name there is another master."""
        again = refused(calls, answers, ReadOnlyError)
        if again:
            await self._redis.connection_pool.disconnect(inuse_connections=False)
        return again

    async def _load_scripts(self, calls: list[Call], answers: dict[Call, list[Any]]) -> list[Call]:
        """They were flushed, or this server has never seen them."""
        again = refused(calls, answers, NoScriptError)
        if again:
            for text in self._texts:
                await self._redis.script_load(text)
        return again

    async def _send(self, calls: list[Call]) -> dict[Call, list[Any]]:
        if not calls:
            return {}
        async with self._redis.pipeline(transaction=False) as pipeline:
            for call in calls:
                for command in call.commands:
                    pipeline.execute_command(*command)
            answers = iter(await pipeline.execute(raise_on_error=False))
        return {call: list(islice(answers, len(call.commands))) for call in calls}


def size_of(command: Command) -> int:
    """Arguments and KiB. Only bytes count: the rest is names and numbers."""
    return len(command) + sum([len(part) for part in command if isinstance(part, bytes)]) // 1_024


def refused(calls: list[Call], answers: dict[Call, list[Any]], why: type[RedisError]) -> list[Call]:
    """The calls of which a command was refused for this reason."""
    return [call for call in calls if any(isinstance(answer, why) for answer in answers[call])]
