"""The processes that tests start: each runs its command, reports how it ended, and does not outlive the run."""

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launcher import receive
from tests.support.processes import ROOT, Process
from tests.support.waiting import until

# A program that prints how it was started.
REFLECTS = """
import os, sys
print(sys.argv, os.getcwd(), sorted(os.environ), os.getpid() == os.getpgid(0), sys.path[0], __name__)
print(sys.stdin.read() == "", file=sys.stderr)
os.write(1, b"unbuffered\\n")
sys.exit(3)
"""


def test_a_forked_program_is_the_program(tmp_path: Path) -> None:
    """It has the arguments, the environment, the folder, the input and the exit code of one that was executed."""
    (tmp_path / "reflects.py").write_text(REFLECTS)
    command, seen = [sys.executable, "-m", "reflects", "--flag", "value"], []
    for fresh in (True, False):
        process = Process(command, {"OF_ITS_OWN": "1"}, tmp_path, fresh=fresh)
        assert process.wait() == 3
        seen.append(process.output)
    assert seen[0] == seen[1]
    assert "OF_ITS_OWN" in seen[0]


def test_a_program_that_raises(tmp_path: Path) -> None:
    """Its traceback is in the output, and it has failed."""
    (tmp_path / "raises.py").write_text("raise ValueError('seen')")
    process = Process([sys.executable, "-m", "raises"], cwd=tmp_path)
    assert process.wait() == 1
    assert "ValueError: seen" in process.output


def test_a_command_that_is_not_there() -> None:
    """The output names it."""
    process = Process(["no-such-command"])
    assert process.wait() == 127
    assert process.output == "no-such-command: No such file or directory\n"


def test_a_process_that_is_killed() -> None:
    """Its exit code is the signal."""
    process = Process(["sleep", "3600"])
    process.kill()
    assert process.returncode == -signal.SIGKILL
    process.kill()  # once more changes nothing


def test_an_exit_code_that_comes_with_the_process_id() -> None:
    """Of a process that ends at once, both may be there before the first is read: each is taken by itself."""
    ours, keepers = socket.socketpair()
    with ours, keepers:
        keepers.sendall(b"4711\n0\n")
        keepers.shutdown(socket.SHUT_WR)
        assert [receive(ours), receive(ours), receive(ours)] == [4711, 0, None]


def test_what_a_process_has_started_ends_with_it() -> None:
    """Also if it has given its output away, so that nothing tells that it is there."""
    process = Process(["sh", "-c", "sleep 3600 >/dev/null 2>&1 & echo $!"])
    child = int(process.wait_for(r"(\d+)\n").group(1))
    process.wait()
    wait_until_gone(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_ends_leaves_no_process(number: int) -> None:
    """Neither Ctrl-C nor SIGKILL of a run of tests leaves a process behind."""
    starts = (
        "from tests.support.processes import Process\n"
        "processes = [Process(['sleep', '3600']) for _ in range(2)]\n"
        "print(*(process.pid for process in processes), flush=True)\n"
        "processes[0].wait(3600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starts], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert [pid for pid in pids if is_there(pid)] == pids
        run.send_signal(number)
        for pid in pids:
            wait_until_gone(pid)


def is_there(pid: int) -> bool:
    """Whether a process of this id runs: one that has ended and that init has not collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int) -> None:
    """Return when no process has this id."""
    asyncio.run(until(lambda: not is_there(pid), f"process {pid} is gone"))
