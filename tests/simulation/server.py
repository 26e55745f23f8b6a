"""The real Redis of a simulation: commands are executed at once, by the simulated clock."""

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
from redis._parsers.base import BaseParser
from redis.exceptions import ResponseError

from plugins import keys
from tests.simulation.clock import BEGIN, EPOCH

Command = tuple[Any, ...]
Snapshot = list[Any]

# Scripts and TIME read this key instead of the server's clock.
CLOCK: Final = "simulation:clock"
TIME: Final = f"redis.call('HMGET', '{CLOCK}', 's', 'us')"

DUMP: Final = f"""
local found = {{}}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if key ~= '{CLOCK}' then
    local lifetime = redis.call('PTTL', key)
    for _, part in ipairs({{key, math.max(lifetime, 0), redis.call('DUMP', key)}}) do found[#found + 1] = part end
  end
end
return found"""

# Makes pending messages as old as they are by the simulated clock. ARGV: group, then ids and ages (ms).
AGE: Final = """
local ages = {}
for i = 2, #ARGV, 2 do ages[ARGV[i]] = tonumber(ARGV[i + 1]) end
for _, message in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000)) do
  local age = ages[message[1]]
  if age and message[3] < age then
    redis.call('XCLAIM', KEYS[1], ARGV[1], message[2], 0, message[1], 'IDLE', age, 'JUSTID')
  end
end"""

NOT_YET: Final = object()

PUBLISHES: Final = re.compile(r"PUBLISH", re.IGNORECASE)


@cache
def by_simulated_clock(script: str) -> str:
    """The script, which reads the simulated clock."""
    return script.replace("redis.call('TIME')", TIME)


@cache
def publishes(script: str) -> bool:
    """Whether the script publishes messages."""
    return PUBLISHES.search(script) is not None


class Wire:
    """One blocking connection to the server."""

    def __init__(self, url: str, protocol: int = 2) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(parts.path)
        else:
            self._socket = socket.create_connection((parts.hostname, parts.port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(10)
        self._reader = hiredis.Reader(replyError=BaseParser.parse_error, notEnoughData=NOT_YET)
        self.call(("HELLO", protocol))
        if parts.scheme != "unix":
            self.call(("SELECT", parts.path.removeprefix("/") or "0"))

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Execute these commands, and return their answers; errors are among them."""
        self._socket.sendall(b"".join(map(packed, commands)))
        return [self.read() for _ in commands]

    def call(self, command: Command) -> Any:
        """Execute one command.

        Raises:
            redis.exceptions.ResponseError: the server refuses it.
        """
        (answer,) = self.send([command])
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def read(self) -> Any:
        """Read one answer, or one message."""
        while (answer := self._reader.gets()) is NOT_YET:
            received = self._socket.recv(65_536)
            assert received, "the server has closed the connection"
            self._reader.feed(received)
        return answer

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()


def packed(command: Command) -> bytes:
    """The command as it is sent. redis-py has the words of some commands in one argument."""
    first = command[0].encode() if isinstance(command[0], str) else command[0]
    return bytes(hiredis.pack_command((*first.split(), *command[1:])))


class Server:
    """Executes commands of simulated processes, and returns the messages that these publish."""

    def __init__(self, url: str) -> None:
        self._wires = {2: Wire(url, 2), 3: Wire(url, 3)}
        self._ear = Wire(url)
        self._ear.call(("PSUBSCRIBE", "*"))
        self._heard: list[tuple[bytes, bytes]] = []
        self._set_to: float | None = None
        self._delivered: dict[bytes, float] = {}  # ids of messages on the queue: when they were read
        self.now = BEGIN
        self.offset = 0.0  # of the server's clock, in seconds

    def reset(self) -> None:
        """Empty the database, and begin again."""
        self._wires[2].call(("FLUSHDB",))
        self._heard.clear()
        self._delivered.clear()
        self._set_to, self.now, self.offset = None, BEGIN, 0.0

    def close(self) -> None:
        """Disconnect."""
        for wire in [*self._wires.values(), self._ear]:
            wire.close()

    def call(self, *command: Any) -> Any:
        """Execute a command of the test's own, by protocol 2."""
        return self.execute([command])[0]

    def execute(self, commands: Sequence[Command], protocol: int = 2) -> list[Any]:
        """Execute the commands of one round trip, and return their answers; errors are among them."""
        wire = self._wires[protocol]
        before = self._clock()
        translated = [self._translated(command) for command in commands]
        answers = wire.send([*before, *translated])[len(before) :]
        for command, answer in zip(commands, answers, strict=True):
            if command[0] == "XREADGROUP":
                self._note(answer)
        if any(command[0] == "PUBLISH" or (command[0] == "EVAL" and publishes(command[1])) for command in commands):
            self._listen()
        return answers

    @contextmanager
    def full(self) -> Iterator[None]:
        """Within this context, Redis refuses everything that needs memory."""
        self._wires[2].call(("CONFIG SET", "maxmemory", 1))
        try:
            yield
        finally:
            self._wires[2].call(("CONFIG SET", "maxmemory", 0))

    def heard(self) -> list[tuple[bytes, bytes]]:
        """Channels and messages that were published since the last call."""
        heard, self._heard = self._heard, []
        return heard

    def _clock(self) -> list[Command]:
        time = EPOCH + (self.now - BEGIN) + self.offset
        if time == self._set_to:
            return []
        self._set_to = time
        return [("HSET", CLOCK, "s", int(time), "us", int(time % 1 * 1_000_000))]

    def _translated(self, command: Command) -> Command:
        if command[0] in ("EVAL", "EVAL_RO"):
            return (command[0], by_simulated_clock(command[1]), *command[2:])
        if command[0] == "TIME":
            return ("HMGET", CLOCK, "s", "us")
        if command[0] == "XAUTOCLAIM" and self._delivered:
            ages = [part for each, at in self._delivered.items() for part in (each, int((self.now - at) * 1_000))]
            self._wires[2].call(("EVAL", AGE, 1, keys.QUEUE, keys.QUEUE_GROUP, *ages))
        return command

    def _note(self, answer: Any) -> None:
        streams = answer.items() if isinstance(answer, dict) else answer or ()
        for _, entries in streams if not isinstance(answer, ResponseError) else ():
            for entry_id, _ in entries:
                self._delivered[entry_id] = self.now

    def _listen(self) -> None:
        # The server has sent all messages before it answers this.
        self._ear._socket.sendall(packed(("PING",)))
        while (message := self._ear.read())[0] == b"pmessage":
            self._heard.append((message[2], message[3]))

    def snapshot(self) -> Snapshot:
        """All that the server holds."""
        return list(self._wires[2].call(("EVAL", DUMP, 0)))

    def restore(self, snapshot: Snapshot) -> None:
        """Let the server hold this, and nothing else."""
        parts = iter(snapshot)
        restores = [("RESTORE", key, lifetime, dump) for key, lifetime, dump in zip(parts, parts, parts, strict=True)]
        answers = self._wires[2].send([("FLUSHDB",), *restores])
        assert not any(isinstance(answer, ResponseError) for answer in answers), answers
        self._set_to = None
