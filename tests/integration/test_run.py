"""`make run`: however it ends, it says what is wrong, if something is, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.processes import ROOT, Process, free_port
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

RUN: Final = [sys.executable, "-m", "scripts.run"]
READY: Final = "Tailrace is ready"


class Place:
    """Where `make run` puts what it needs: all that it starts can be found by it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {"REDIS_URL": "", "TMPDIR": str(path), "PORT": "0"}

    def start(self, **env: str) -> Process:
        """`make run`, with these variables besides."""
        return Process(RUN, {**self.env, **env}, fresh=True)

    def left(self) -> list[int]:
        """The ids of the processes that are there; Valkey, which hides its environment, works in a folder of ours."""
        mark = f"TMPDIR={self.path}\0".encode()
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes() or (folder / "cwd").readlink().is_relative_to(self.path):
                    pids.append(int(folder.name))
        return pids

    def valkey(self) -> int | None:
        """The id of the Redis that it has started, if it has."""
        for pid in self.left():
            with suppress(OSError):
                if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.path):
                    return pid
        return None

    def assert_empty(self) -> None:
        """No process is left, and no file."""
        assert not self.left()
        assert not list(self.path.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """One that is cleared up, whatever happens."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("only Linux tells what belongs to whom")
    place = Place(tmp_path)
    yield place
    for pid in place.left():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ctrl_c(run: Process) -> None:
    """Interrupt the whole foreground group, as a terminal does."""
    os.killpg(run.pid, signal.SIGINT)


def started(run: Process, name: str) -> int:
    """The id of the process of this name, when it has been started."""
    return int(run.wait_for(rf"system \| {name} +started \(pid=(\d+)\)").group(1))


MOMENTS: Final[dict[str, Callable[[Place, Process], object]]] = {
    "while Redis starts": lambda place, _: place.valkey(),
    "while the services start": lambda _, run: "worker started" in run.output,
    "when it is ready": lambda _, run: READY in run.output,
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
async def test_ctrl_c(place: Place, moment: Callable[[Place, Process], object]) -> None:
    """It stops whenever it is told to; a second Ctrl-C, of an impatient user, breaks nothing."""
    run = place.start()
    await until(lambda: moment(place, run))
    ctrl_c(run)
    ctrl_c(run)
    assert run.wait() == 0, run.output
    assert "Traceback" not in run.output
    place.assert_empty()


# `make run`, held up when Python has given signal handlers back, and destroys its modules: until a byte comes.
SLOW_EXIT: Final = """
import os, runpy, sys

class Last:
    def __del__(self, write=os.write, read=os.read, fifo=os.open(sys.argv[1], os.O_RDONLY)):
        write(1, b"exiting\\n")
        read(fifo, 1)

last = Last()
runpy.run_module("scripts.run", run_name="__main__")
"""


async def test_signals_while_it_exits(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Signals that arrive when everything has ended change nothing: the exit code is 0, and no process is left."""
    path = tmp_path_factory.mktemp("exit") / "fifo"
    os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR)  # blocks neither here nor there
    try:
        run = Process([sys.executable, "-c", SLOW_EXIT, str(path)], place.env, fresh=True)
        await until(place.valkey)
        ctrl_c(run)
        run.wait_for("exiting")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.killpg(run.pid, number)
        os.write(fifo, b".")
        assert run.wait() == 0, run.output
    finally:
        os.close(fifo)
    assert "Traceback" not in run.output
    place.assert_empty()


# Guards, one after the other, in a group that is told to stop all the time.
BETWEEN_FORK_AND_SESSION: Final = """
import os, signal, threading
from scripts.groups import STOPS, guard

def tell(over):
    while not over.is_set():
        os.killpg(0, signal.SIGINT)

for number in STOPS:
    signal.signal(number, lambda *_: None)
over = threading.Event()
threading.Thread(target=tell, args=[over], daemon=True).start()
for _ in range(20):
    with guard() as guarded:
        guarded([])
over.set()
"""


def test_ctrl_c_reaches_no_guard() -> None:
    """A Ctrl-C while `make run` starts its guards is heard by `make run` alone, and is no reason for a traceback."""
    run = Process([sys.executable, "-c", BETWEEN_FORK_AND_SESSION], fresh=True)
    assert run.wait() == 0, run.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals(place: Place, number: signal.Signals) -> None:
    """An operator's word, a terminal that is closed, and Ctrl-\\ are heard like Ctrl-C."""
    run = place.start()
    started(run, "worker")
    run.signal(number)
    assert run.wait() == 0, run.output
    assert "Traceback" not in run.output
    place.assert_empty()


async def test_what_does_not_obey_is_killed(place: Place) -> None:
    """A process that cannot hear holds nothing up for longer than a few seconds."""
    run = place.start()
    api = started(run, "api")
    os.kill(api, signal.SIGSTOP)
    await until(lambda: Path(f"/proc/{api}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    ctrl_c(run)
    assert run.wait() == 0, run.output
    assert re.search(r"api +stopped \(rc=-9\)", run.output)
    place.assert_empty()


def test_a_closed_output(place: Place) -> None:
    """Where what it prints is read no more, as with `make run | head`, it stops, without complaint."""
    with subprocess.Popen(
        RUN, cwd=ROOT, env={**os.environ, **place.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        assert run.stderr
        assert "started" in run.stdout.readline()
        run.stdout.close()
        assert run.wait(DEADLINE_S) == 0
        assert run.stderr.read() == ""
    place.assert_empty()


@pytest.mark.parametrize("name", ["api", "worker", "Redis"])
async def test_one_that_dies(place: Place, name: str) -> None:
    """Without one of them the others are no use: all end, and it says which it was."""
    run = place.start()
    run.wait_for(READY)
    pid = place.valkey() if name == "Redis" else started(run, name)
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert run.wait() == 1
    assert f"make run: {name} ended by itself" in run.output
    await until(lambda: not place.left())


def test_the_last_lines_of_one_that_dies(place: Place) -> None:
    """They are there, before the message that refers to them."""
    run = place.start(TAILRACE_HEARTBEAT_S="soon")
    assert run.wait() == 1
    assert re.search(r"api +\| .*HEARTBEAT_S.*soon.*^make run: api ended by itself", run.output, re.S | re.M)
    place.assert_empty()


async def test_its_own_sudden_end(place: Place) -> None:
    """The processes that it has started end, too, when it is killed. Its log was for a person."""
    run = place.start()
    run.wait_for(READY)
    run.wait_for(r"worker +\| \d{4}-\S+Z \[info +\] functions loaded")
    run.signal(signal.SIGKILL)
    await until(lambda: not place.left())
    assert run.wait() == -signal.SIGKILL


def test_two_beside_each_other(place: Place) -> None:
    """The second, with the port of the first, takes another and says why; both serve."""
    runs = [place.start()]
    first = runs[0].wait_for(r"API +(http:\S+:(\d+))\n")
    runs.append(place.start(PORT=first.group(2)))
    second = runs[1].wait_for(rf"API +(http:\S+) \(not port {first.group(2)}: Address already in use\)\n")
    for url in (first, second):
        assert len(httpx.get(f"{url.group(1)}/functions").json()["functions"]) > 3
    for run in runs:
        ctrl_c(run)
        assert run.wait() == 0, run.output
    place.assert_empty()


def test_with_authentication(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An API that asks for a credential is ready, too, and the printed lines work with a key."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    add = [sys.executable, "-m", "services.api.keys", "add", "--owner", "ada", "--file", str(file)]
    key = subprocess.run(add, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    run = place.start(TAILRACE_AUTH="keys", TAILRACE_KEYS_FILE=str(file))
    run.wait_for("functions loaded")
    start = run.wait_for(r"where KEY is .*:\n\n(TASK=.*)\n").group(1)
    follow = run.wait_for(r"\n(curl -N .*)\n").group(1)
    assert [line.count("$KEY") for line in (start, follow)] == [1, 1]
    # A proxy of the environment is not for this machine.
    env = {**os.environ, "KEY": key, "NO_PROXY": "*"}
    script = f"{start.replace('0.5', '0')}\n{follow}"
    out = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=DEADLINE_S)
    assert 'event: done\ndata: {"chunks":20}' in out.stdout
    ctrl_c(run)
    assert run.wait() == 0, run.output
    place.assert_empty()


@pytest.mark.parametrize("port", ["http", "65536"])
def test_a_port_that_is_none(place: Place, port: str) -> None:
    """It says so."""
    run = place.start(PORT=port)
    assert run.wait() == 1
    assert run.output == f"\nmake run: PORT must be the number of a port, not '{port}'.\n"
    place.assert_empty()


def test_a_redis_that_does_not_answer(place: Place) -> None:
    """It says what it waits for, gives up, and shows no password."""
    address = f"127.0.0.1:{free_port()}"
    run = place.start(REDIS_URL=f"redis://user:secret@{address}/0")
    run.wait_for(rf"system \| waiting: Redis at redis://\*\*\*@{address}/0 does not answer: .*refused")
    assert run.wait() == 1
    assert f"make run: After 5 seconds Redis at redis://***@{address}/0 does not answer" in run.output
    assert "secret" not in run.output
    place.assert_empty()
