"""Real processes for tests: started, listened to, and ended as an operator or a crash would."""

import atexit
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support import canaries, redis_acl
from tests.support.launcher import Launcher, kill_group, receive
from tests.support.waiting import DEADLINE_S

ROOT: Final = Path(__file__).parent.parent.parent
FUNCTIONS: Final = os.pathsep.join(["functions", "tests/functions"])

# The broker of the worker's own command.
BROKER: Final = "services.worker.app:broker"

# uvicorn's protocol, as an operator names it.
GUARD: Final = "services.api.http.guard:Guard"

launcher: Final = Launcher()

# Settings of every service, as `make run` has them: assertions read lines of the log, and why a task failed.
FOR_A_PERSON: Final = {"TAILRACE_LOG_FORMAT": "console", "TAILRACE_FAILURE_TEXT": "always"}


# Ports for servers that must be told theirs.
PORTS: Final = range(20_000, 30_000)


class Process:
    """A process in a session of its own, whose output is kept and can be waited for.

    A module of Python's, `[sys.executable, "-m", …]`, is forked from a process that has the libraries imported, unless
    it must be `fresh`; any other command is executed. A service reaches Redis as its user of `deploy/redis.acl`.
    When it has ended, its output must have no secret, apart from texts in `public`: a test has written those to a place
    that is none for secrets.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path = ROOT, *, fresh: bool = False
    ) -> None:
        self.lines: list[str] = []
        self.public: set[str] = set()
        self._command = command
        self.returncode: int | None = None
        self._news = threading.Condition()
        self._ended = threading.Event()
        # One with a path of its own has other libraries.
        fork = not fresh and command[:2] == [sys.executable, "-m"] and "PYTHONPATH" not in (env or {})
        service = any("services." in part for part in command)
        whole = {**os.environ, "PYTHONUNBUFFERED": "1", **(FOR_A_PERSON if service else {}), **(env or {})}
        whole = redis_acl.as_own_user(command, whole)
        self.pid, output, self._keeper = launcher.launch(command, whole, cwd, fork=fork)
        self._reader = threading.Thread(target=self._read, args=[output], daemon=True)
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._reader.start()
        self._waiter.start()

    @property
    def output(self) -> str:
        """All it has printed so far."""
        return "".join(self.lines)

    def _read(self, output: int) -> None:
        with open(output, errors="backslashreplace") as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _wait(self) -> None:
        code = receive(self._keeper)
        self.returncode = -signal.SIGKILL if code is None else code
        self._ended.set()

    def wait_for(self, pattern: str, deadline_s: float = DEADLINE_S) -> "re.Match[str]":
        """Wait until it has printed what matches."""
        until = time.monotonic() + deadline_s
        with self._news:
            while not (match := re.search(pattern, self.output)):
                left = until - time.monotonic()
                ended = self._ended.is_set() and not self._reader.is_alive()
                if left <= 0 or ended:
                    raise AssertionError(f"never printed {pattern!r}:\n{self.output}")
                self._news.wait(min(left, 1))
        return match

    def signal(self, number: int) -> None:
        """Send a signal to the process, not to its children."""
        if not self._ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until it has ended, and all that it has started has closed its output; its exit code.

        Raises:
            TimeoutError: it has not ended.
            AssertionError: a line of its output has a secret.
        """
        if not self._ended.wait(deadline_s):
            raise TimeoutError(f"process {self.pid} goes on:\n{self.output}")
        self._reader.join(deadline_s)
        self._hang_up()
        canaries.assert_none(self.output, self._command, self.public)
        assert self.returncode is not None
        return self.returncode

    def _hang_up(self) -> None:
        """Let the keeper end, and with it whatever is left."""
        self._keeper.close()

    def stop(self) -> int:
        """End it as an operator would; its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except TimeoutError:
            self.kill()
            raise AssertionError(f"did not end after SIGTERM:\n{self.output}") from None

    def kill(self) -> None:
        """End it and its children as a crash would."""
        if not self._ended.is_set() or self._reader.is_alive():
            kill_group(self.pid)
        self.wait()


# Sockets that hold the ports of this run, until it ends.
_ports: Final[list[socket.socket]] = []


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing else takes before this run has ended.

    It is below those that the kernel gives to clients and to servers that ask for any. A UDP socket of the same number
    holds it: another run that looks for a port at the same moment finds another.
    """
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        lock = socket.socket(type=socket.SOCK_DGRAM)
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                lock.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
        else:
            _ports.append(lock)
            return port
    raise AssertionError(f"no port of {PORTS} is free")


@atexit.register
def release_ports() -> None:
    """Let other runs have the ports of this one, which has ended."""
    for lock in _ports:
        lock.close()


class Api:
    """An API process, and where it answers."""

    def __init__(self, redis_url: str, *flags: str, **settings: str) -> None:
        command = ["uvicorn", "--factory", "services.api.app:create_app", "--http", GUARD, "--timeout-keep-alive", "75"]
        command += ["--no-server-header", "--port", "0", *flags]
        self.process = Process([sys.executable, "-m", *command], {"REDIS_URL": redis_url, **settings})
        self.url = self.process.wait_for(r"running on (http://[\d.:]+)").group(1)


@contextmanager
def api_process(redis_url: str, *flags: str, **settings: str) -> Iterator[Api]:
    """An API on a free port, with these flags of uvicorn's and these environment variables."""
    api = Api(redis_url, *flags, **settings)
    try:
        yield api
    finally:
        api.process.kill()


@contextmanager
def worker_process(redis_url: str, *flags: str, broker: str = BROKER, **settings: str) -> Iterator[Process]:
    """A worker that listens, and knows the examples and the tests' own functions; with these flags of Taskiq's."""
    command = ["services.worker"] if broker == BROKER else ["taskiq", "worker", broker]
    command += ["--workers", "1", *flags]
    env = {"REDIS_URL": redis_url, "FUNCTIONS_PATH": FUNCTIONS, **settings}
    process = Process([sys.executable, "-m", *command], env)
    try:
        process.wait_for("Listening started")
        yield process
    finally:
        process.kill()
