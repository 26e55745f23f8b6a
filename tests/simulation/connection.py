"""A connection of redis-py whose commands are steps of a simulation.

Pools, pipelines, retries and back-offs above it are redis-py's own.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.simulation.clock import Process
from tests.simulation.server import Command

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

SUBSCRIPTIONS = frozenset({"SUBSCRIBE", "UNSUBSCRIBE"})


class SimulatedConnection(Connection):
    """One connection of a simulated process."""

    simulator: ClassVar["Simulator"]
    process: ClassVar[Process]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"driver_info": None})  # to find it out takes milliseconds
        self._open = False
        self._answers: deque[Any] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self.channels: dict[bytes, None] = {}

    @property
    def is_connected(self) -> bool:
        """Whether it was connected, and has not broken since."""
        return self._open

    async def _connect(self) -> None:
        if self.simulator.down:
            raise RedisConnectionError("simulated: connection refused")
        self._open = True
        self._answers.clear()
        self.channels.clear()
        self.simulator.connections[self] = None

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Every connection is what its options ask for."""

    async def disconnect(self, *_: Any, **__: Any) -> None:
        """Close it."""
        self.lose()

    def lose(self) -> None:
        """Break it: a process that waits for a message learns that."""
        self._open = False
        self.simulator.connections.pop(self, None)
        self._wake()

    async def can_read(self) -> bool:
        """Whether there are answers that were not read."""
        return bool(self._answers)

    def pack_command(self, *args: Any) -> Any:
        """Leave the command as it is."""
        return [args]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> Any:
        """Leave the commands as they are."""
        return [tuple(command) for command in commands]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send the commands of one round trip, and wait for their answers."""
        if not self._open:
            await self.connect_check_health(check_health=False)
        commands: list[Command] = command
        if commands[0][0] in SUBSCRIPTIONS:
            self.simulator.subscribe(self, commands[0])
            return
        try:
            self._answers.extend(await self.simulator.send(self, commands))
        except BaseException:
            self.lose()
            raise

    def receive(self, message: list[Any]) -> None:
        """Receive a published message, or the confirmation of a subscription."""
        self._answers.append(message)
        self._wake()

    def _wake(self) -> None:
        if self.process.frozen:
            self.process.late.append(self._wake)
        elif self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        """Return the next answer; where it has subscribed, wait for the next message.

        Raises:
            redis.exceptions.ConnectionError: the connection is broken.
            redis.exceptions.ResponseError: the answer is an error.
        """
        while not self._answers:
            if not self._open:
                raise RedisConnectionError("simulated: connection lost")
            assert timeout == math.inf, "there is an answer to every command"
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        answer = self._answers.popleft()
        if isinstance(answer, ResponseError):
            raise answer
        return answer
