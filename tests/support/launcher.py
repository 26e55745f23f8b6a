"""Starts the processes of a test run: Python programs in a moment, and none outlives the run.

An API or a worker takes one to two seconds to start, and nearly all of that is imports. So one process imports the
libraries once and forks: the fork runs the same program with the same arguments. Any other command is executed as
it is. Between the run and each process stands a keeper, which reports how the process ended and kills it if the run
goes away first, even by SIGKILL.

    run ──request──▶ launcher ──fork──▶ keeper ──fork──▶ program
     ◀──────────── its pid, its exit code ─┘
"""

import atexit
import importlib
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent

# Imported once. Neither has an effect but that it is imported: the worker's `app` would read its settings.
PRELOADED: Final = (
    "httpx",
    "httpx_sse",
    "services.api.app",
    "services.worker.queue.broker",
    "services.worker.registry.registry",
    "services.worker.process",
    "services.worker.settings",
    "taskiq.cli.worker.cmd",
    "taskiq.cli.worker.run",
    "uvicorn.main",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)


class Launched(NamedTuple):
    """A process: its id, what it prints, and a connection on which its exit code arrives."""

    pid: int
    output: int
    keeper: socket.socket


class Launcher:
    """Starts processes, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None

    def launch(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, *, fork: bool) -> Launched:
        """A process in a session of its own. With `fork`, the command is `[python, "-m", module, …]`.

        A command that cannot be executed says so in its output and ends with 127.
        """
        request = json.dumps({"command": list(command), "env": dict(env), "cwd": str(cwd), "fork": fork}).encode()
        ours, keepers = socket.socketpair()
        output, printed = os.pipe()
        with keepers, self._lock:
            self._requests = self._requests or self._start()
            self._requests.sendall(len(request).to_bytes(4, "big"))
            socket.send_fds(self._requests, [b"."], [keepers.fileno(), printed])
            self._requests.sendall(request)
        os.close(printed)
        pid = receive(ours)
        assert pid is not None, "the launcher is gone"
        return Launched(pid, output, ours)

    def _start(self) -> socket.socket:
        ours, launchers = socket.socketpair()
        with launchers:
            # In a session of its own: Ctrl-C is for the run, which ends everything else.
            launcher = subprocess.Popen(
                [sys.executable, "-m", __name__, str(launchers.fileno())],
                pass_fds=[launchers.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=ROOT,
            )

        def end() -> None:
            ours.close()
            launcher.wait()

        atexit.register(end)
        return ours


def receive(keeper: socket.socket) -> int | None:
    """The next number that a keeper reports: first the process id, then its exit code; None if the keeper is gone."""
    line = b""
    while not line.endswith(b"\n"):
        piece = keeper.recv(1)  # no more: of a process that ends at once, the exit code may be there, too
        if not piece:
            return None
        line += piece
    return int(line)


def serve(run: socket.socket) -> list[str]:
    """Fork for every request of the run. In each program that is forked: returns its arguments."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no keeper is waited for
    while size := run.recv(4, socket.MSG_WAITALL):
        _, (keeper, printed), _, _ = socket.recv_fds(run, 1, 2)
        request: dict[str, Any] = json.loads(run.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
        if request["fork"]:
            for name in PRELOADED:
                importlib.import_module(name)
        if os.fork() == 0:
            run.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with socket.socket(fileno=keeper) as reports:
                if program := os.fork():
                    os.close(printed)
                    keep(program, reports)
                # It reports its id itself, once the session is its own: it can be killed from then on.
                os.setsid()
                reports.sendall(b"%d\n" % os.getpid())
            return become(request, printed)
        os.close(keeper)
        os.close(printed)
    os._exit(0)


def keep(program: int, reports: socket.socket) -> None:
    """Report the exit code; end what is left when the run hangs up. Never returns."""

    def report() -> None:
        code = exit_code(program)
        with suppress(OSError):  # the run has hung up
            reports.sendall(b"%d\n" % code)

    threading.Thread(target=report, daemon=True).start()
    reports.recv(1)  # returns when the run has hung up, or is gone
    with suppress(ProcessLookupError):
        os.kill(program, signal.SIGKILL)  # it may not have a session of its own yet
    kill_group(program)
    os._exit(0)


def exit_code(program: int) -> int:
    """Wait until a child has ended; its exit code, negative for a signal.

    It stays a zombie where the system can do that (macOS cannot before Python 3.13): so no other process gets its id,
    by which what it has started may still have to be killed.
    """
    if not hasattr(os, "waitid"):
        return os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    ended = os.waitid(os.P_PID, program, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def kill_group(leader: int) -> None:
    """End a process and those that it has started, as a crash would."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def become(request: dict[str, Any], printed: int) -> list[str]:
    """Make this process the one that was asked for; its arguments, if it is a Python program to be run here."""
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.close(printed)
    os.chdir(request["cwd"])
    command: list[str] = request["command"]
    if not request["fork"]:
        try:
            os.execvpe(command[0], command, request["env"])
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", flush=True)
            os._exit(127)
    sys.path[0] = request["cwd"]  # as `-m` has it
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    return command[2:]


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        arguments = serve(connection)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
