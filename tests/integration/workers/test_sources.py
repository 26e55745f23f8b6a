"""Where functions come from: good files, bad files, files that do not come back, and installed packages."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import follow, start
from tests.support.files import notes
from tests.support.processes import Process, worker_process
from tests.support.settings import QUICK
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

GOOD = """
from plugins import function

@function()
async def good_{number}(x: int) -> int:
    return x + {number}
"""

MODEL = """
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from plugins import function

PLACE = Path(__file__).parent

class Model:
    def __init__(self) -> None:
        self.rank = {"b": 1, "a": 2}.get

@asynccontextmanager
async def lifespan() -> AsyncIterator[Model]:
    (PLACE / f"made.{os.getpid()}").touch()
    yield Model()
    (PLACE / f"left.{os.getpid()}").touch()

@function()
async def ranks(words: list[str], model: Model) -> list[str]:
    return sorted(words, key=model.rank)

@function()
async def first(words: list[str], *, model: Model) -> str:
    return min(words, key=model.rank)
"""

FAILS = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from plugins import function

class Pool: ...

@asynccontextmanager
async def lifespan() -> AsyncIterator[Pool]:
    raise ConnectionError("no such database")
    yield Pool()

@function()
async def needs(pool: Pool) -> None: ...

@function()
async def needs_nothing() -> str:
    return "runs"
"""

QUITS = """
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from plugins import function

class Pool: ...

@asynccontextmanager
async def lifespan() -> AsyncIterator[Pool]:
    sys.exit(3)
    yield Pool()

@function()
async def quits(pool: Pool) -> None: ...
"""

# The functions that the worker has, although their neighbours fail.
LOADED = [*(f"good_{number}" for number in range(10)), "ranks", "first", "needs_nothing", "loud.shout"]

PLAIN = """
def shout(text: str) -> str:
    '''Say it louder.'''
    return text.upper()
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """Ten good files, a broken one, one that hangs, one with a lifespan, and two whose lifespans fail."""
    place = tmp_path / "functions"
    place.mkdir()
    for number in range(10):
        (place / f"good_{number}.py").write_text(GOOD.format(number=number))
    (place / "broken.py").write_text("import no_such_package\n")
    (place / "hangs.py").write_text("import time\ntime.sleep(3600)\n")
    (place / "model.py").write_text(MODEL)
    (place / "fails.py").write_text(FAILS)
    (place / "quits.py").write_text(QUITS)
    return place


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as pip leaves it: a package that knows nothing of us, and what it says that it brings."""
    place = tmp_path / "site"
    (place / "loud-1.2.dist-info").mkdir(parents=True)
    (place / "loud-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.2\n")
    (place / "loud-1.2.dist-info" / "entry_points.txt").write_text(
        "[tailrace.functions]\nloud.shout = loud:shout\ngone = loud:whisper\n"
    )
    (place / "loud.py").write_text(PLAIN)
    return place


@pytest.fixture
def worker(own_url: str, functions: Path, package: Path) -> Iterator[Process]:
    """A worker with all of that.

    It has loaded every function that the tests start: another worker has announced them before, so that the task of a
    function that this one lacks would wait for ever.
    """
    with worker_process(
        own_url,
        FUNCTIONS_PATH=str(functions),
        PYTHONPATH=str(package),
        **QUICK,
        TAILRACE_IMPORT_S="3",  # one hangs; the others are soon done, but not at once on a busy machine
        TAILRACE_DRAIN_S="0",
    ) as process:
        loaded = process.wait_for("functions loaded.*").group()
        assert all(f"'{name}'" in loaded for name in LOADED), process.output
        yield process


async def test_one_bad_module_does_not_take_the_others_along(
    worker: Process, own_client: httpx.AsyncClient, functions: Path
) -> None:
    """Files that load run. The catalogue has the others with their errors. Readiness counts them, and stays 200."""
    answer = (await own_client.get("/functions")).json()
    said = {each["source"]: each["error"] for each in answer["broken"]}
    # Errors of another test's worker stay announced for a minute.
    broken = {source: why for source, why in said.items() if Path(source).parent in (Path(functions.name), Path())}
    assert broken[f"{functions.name}/broken.py"].startswith("ModuleNotFoundError: No module named 'no_such_package' (")
    assert "did not come back within 3 s" in broken[f"{functions.name}/hangs.py"]
    assert broken[f"{functions.name}/fails.py"].startswith("`needs` is refused: ConnectionError: no such database (")
    assert "AttributeError" in broken["gone = loud:whisper of loud 1.2"]
    assert "SystemExit: 3 (" in broken[f"{functions.name}/quits.py"]
    # Before any is started: a task of a function that this worker lacks waits for another that has it.
    assert len(broken) == 5, broken
    for number in range(10):
        assert (await follow(own_client, await start(own_client, f"good_{number}", x=1)))[0] == [1 + number]

    ready = await own_client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["functions"] == f"{len(said)} broken: GET /functions has them"


async def test_a_package_brings_a_plain_function(worker: Process, own_client: httpx.AsyncClient) -> None:
    """Without a word of ours in it: called as the entry point says, described by its docstring."""
    assert (await own_client.get("/functions/loud.shout")).json()["description"] == "Say it louder."
    assert await follow(own_client, await start(own_client, "loud.shout", text="hey")) == (
        ["HEY"],
        "done",
        {"chunks": 1},
    )


async def test_what_is_made_once_serves_every_task(
    worker: Process, own_client: httpx.AsyncClient, functions: Path
) -> None:
    """A lifespan is entered once per process, before its functions are listed; and left when the worker leaves."""
    for _ in range(3):
        assert (await follow(own_client, await start(own_client, "ranks", words=["a", "b"])))[0] == [["b", "a"]]
    assert (await follow(own_client, await start(own_client, "first", words=["a", "b"])))[0] == ["b"]
    (made,) = notes(functions, "made.*")
    assert notes(functions, "left.*") == []
    worker.signal(signal.SIGTERM)
    await asyncio.to_thread(worker.wait)
    assert notes(functions, "left.*") == [made.replace("made", "left")]


async def test_a_lifespan_that_fails(worker: Process, own_client: httpx.AsyncClient, own: Redis) -> None:
    """The functions that need it are not offered, then or later; those of the same file that do not, run."""
    await own.hdel(keys.FUNCTIONS, "needs_nothing", "quits")
    await until(lambda: announced(own, "needs_nothing"))  # once more
    for name in ("needs", "quits"):
        assert (await own_client.get(f"/functions/{name}")).status_code == 404
    assert (await follow(own_client, await start(own_client, "needs_nothing")))[0] == ["runs"]


async def announced(own: Redis, name: str) -> bool:
    """Whether a worker has said that it has this function."""
    return bool(await own.hexists(keys.FUNCTIONS, name))
