"""Real processes for tests: started, listened to, and ended as an operator or a crash would."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
FUNCTIONS: Final = os.pathsep.join(["functions", "tests/functions"])

# Seconds until what must happen has not happened. Generous: machines that run tests are busy.
DEADLINE_S: Final = 30


class Process:
    """A process in a session of its own, whose output is kept and can be waited for."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._popen = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process that was started, not of its children."""
        return self._popen.pid

    @property
    def output(self) -> str:
        """All it has printed so far."""
        return "".join(self.lines)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern: str, deadline_s: float = DEADLINE_S) -> "re.Match[str]":
        """Wait until it has printed what matches."""
        until = time.monotonic() + deadline_s
        with self._news:
            while not (match := re.search(pattern, self.output)):
                left = until - time.monotonic()
                ended = self._popen.poll() is not None and not self._reader.is_alive()
                if left <= 0 or ended:
                    raise AssertionError(f"never printed {pattern!r}:\n{self.output}")
                self._news.wait(min(left, 1))
        return match

    def signal(self, number: int) -> None:
        """Send a signal to the process, not to its children."""
        self._popen.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until it has ended; its exit code."""
        code = self._popen.wait(deadline_s)
        self._reader.join(deadline_s)
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        return code

    def stop(self) -> int:
        """End it as an operator would; its exit code."""
        if self._popen.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end after SIGTERM:\n{self.output}") from None

    def kill(self) -> None:
        """End it and its children as a crash would."""
        if self._popen.returncode is None or self._reader.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Api:
    """An API process, and where it answers."""

    def __init__(self, redis_url: str, *flags: str, **settings: str) -> None:
        command = ["uvicorn", "--factory", "services.api.app:create_app", "--port", "0", *flags]
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
def worker_process(redis_url: str, *flags: str, **settings: str) -> Iterator[Process]:
    """A worker that listens, and knows the examples and the tests' own functions; with these flags of Taskiq's."""
    command = ["taskiq", "worker", "services.worker.app:broker", "--workers", "1", *flags]
    env = {"REDIS_URL": redis_url, "FUNCTIONS_PATH": FUNCTIONS, **settings}
    process = Process([sys.executable, "-m", *command], env)
    try:
        process.wait_for("Listening started")
        yield process
    finally:
        process.kill()
