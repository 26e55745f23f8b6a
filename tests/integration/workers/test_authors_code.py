"""Authors' code does what it likes, and takes neither the worker nor the task of another author with it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from shutil import copy
from textwrap import dedent
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.client import data, events, follow, start
from tests.support.files import open_gate
from tests.support.logs import written
from tests.support.processes import FUNCTIONS, ROOT, Process, worker_process
from tests.support.settings import QUICK

pytestmark = pytest.mark.anyio

HEAD: Final = """
import asyncio, sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from plugins import function
"""

# How a file stops a worker that does not expect it.
RAISED: Final = {
    "panic": "class PanicException(BaseException): ...\nraise PanicException('index out of bounds')",
    "interrupt": "raise KeyboardInterrupt",
    "cancel": "raise asyncio.CancelledError('early')",
    "generator": "raise GeneratorExit",
    "exit": "sys.exit(3)",
    "skipped": "import pytest\npytest.skip('not today', allow_module_level=True)",
}

# Within a generator it is the generator's end.
GENERATOR_ENDS: Final = ("enters", "generator")

LIFESPAN: Final = """
@asynccontextmanager
async def lifespan() -> AsyncIterator[str]:
    {enter}
    yield "made"
    {leave}

@function()
async def {name}(made: str) -> str:
    return made
"""

TEAM: Final = """
class Tool:
    name = "{team}"

@asynccontextmanager
async def lifespan() -> AsyncIterator[Tool]:
    yield Tool()

@function()
async def tool_of_{team}(tool: Tool) -> list[str]:
    return [tool.name, __name__]
"""

IMPORTS: Final = """
import pickle
from ._helper import VALUE
from .parts.deep import DEEP
from . import _helper

@function()
async def imports() -> list[object]:
    again = pickle.loads(pickle.dumps(_helper.Thing()))
    return [VALUE, DEEP, files(__package__).joinpath("data.txt").read_text(), type(again) is _helper.Thing,
            sorted(name for name, module in sys.modules.items()
                   if getattr(module, "__file__", None) == _helper.__file__) == [_helper.__name__]]
"""


def write(folder: Path, **files: str) -> Path:
    """A folder of these files, by their stems."""
    folder.mkdir(parents=True)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(HEAD + dedent(text))
    return folder


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that raise what is no `Exception`: at import, in a lifespan, in an annotation, in a default."""
    files = {f"imports_{name}": text for name, text in RAISED.items()}
    for name, text in RAISED.items():
        *setup, last = text.split("\n")
        if name == GENERATOR_ENDS[1]:
            continue
        before = "\n".join(setup)
        files[f"enters_{name}"] = before + LIFESPAN.format(enter=last, leave="pass", name=f"enters_{name}")
        files[f"leaves_{name}"] = before + LIFESPAN.format(enter="pass", leave=last, name=f"leaves_{name}")
    annotated = (
        "def stop() -> object: raise KeyboardInterrupt\n\n@function()\nasync def annotated(x: 'stop()') -> None: ...\n"
    )
    files["annotation"] = annotated
    files["surrogate"] = "raise ValueError('\\udcff')"
    files["notes"] = "e = ValueError('its notes are none'); e.__notes__ = 1; raise e"
    files["documented"] = "@function()\nasync def documented() -> str:\n    '\\ud800'\n    return 'fine'\n"
    files["fine"] = "@function()\nasync def fine() -> str:\n    return 'fine'\n"
    return write(tmp_path_factory.mktemp("bad") / "functions", **files)


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders of the same name, with files of the same name."""
    place = tmp_path_factory.mktemp("teams")
    folders = [write(place / team / "functions", tool=TEAM.format(team=team)) for team in ("a", "b")]
    write(folders[0] / "dotted", name=TEAM.format(team="inner"))
    for stem, team in (("dotted.name", "dots"), ("dotted", "beside")):
        (folders[0] / f"{stem}.py").write_text(HEAD + TEAM.format(team=team))
    return folders


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file that imports those beside and below it."""
    place = tmp_path_factory.mktemp("helped") / "with_helpers"
    write(place, imports=IMPORTS, _helper="VALUE = 'beside'\nclass Thing: ...\n")
    write(place / "parts", deep="DEEP = 'below'\n")
    (place / "data.txt").write_text("data")
    return place


@pytest.fixture(scope="module")
def importable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name no other package has."""
    place = tmp_path_factory.mktemp("importable") / "process_functions"
    place.mkdir()
    copy(ROOT / "tests" / "functions" / "forks.py", place)
    return place


@pytest.fixture(scope="module")
def folders(bad: Path, teams: list[Path], helped: Path, importable: Path) -> str:
    """All of that, before the functions of the other tests."""
    return os.pathsep.join([*map(str, [importable, bad, *teams, helped]), FUNCTIONS])


@pytest.fixture(scope="module")
def worker(own_url: str, folders: str) -> Iterator[Process]:
    """One worker for all tests of this file."""
    with worker_process(own_url, FUNCTIONS_PATH=folders, **QUICK) as process:
        yield process


@pytest.fixture
async def healthy(worker: Process, own_client: httpx.AsyncClient, own: Redis, tmp_path: Path) -> AsyncIterator[None]:
    """A long task of another author, beside the one that is tested: it ends well, in its first attempt."""
    gate = tmp_path / "gate"
    task_id = await start(own_client, "waits", folder=str(tmp_path), gate=str(gate), chunks=5)
    await written(own, task_id, 5)
    yield
    open_gate(gate)
    assert await follow(own_client, task_id) == ([0, 1, 2, 3, 4, "after"], "done", {"chunks": 6})


@pytest.mark.parametrize(
    "stem", [f"{where}_{name}" for where in ("imports", "enters") for name in RAISED if (where, name) != GENERATOR_ENDS]
)
async def test_what_a_file_raises(own_client: httpx.AsyncClient, healthy: None, bad: Path, stem: str) -> None:
    """A file that raises anything at import, or in its lifespan, is listed with the reason and the line."""
    listed = (await own_client.get("/functions")).json()
    told = {each["source"]: each["error"] for each in listed["broken"]}[f"{bad.name}/{stem}.py"]
    kinds = {
        "panic": "PanicException: index out of bounds",
        "interrupt": "KeyboardInterrupt",
        "cancel": "CancelledError: early",
        "generator": "GeneratorExit",
        "exit": "SystemExit: 3",
        "skipped": "Skipped: not today",
    }
    assert kinds[stem.partition("_")[2]] in told
    assert f"{stem}.py:" in told
    assert stem not in {each["name"] for each in listed["functions"]}


async def test_texts_that_json_cannot_represent(own_client: httpx.AsyncClient, healthy: None, bad: Path) -> None:
    """A lone surrogate in a message or a docstring is told with an escape, and odd notes are left out."""
    listed = (await own_client.get("/functions")).json()
    told = {each["source"]: each["error"] for each in listed["broken"]}
    assert told[f"{bad.name}/surrogate.py"].startswith("ValueError: \\udcff (")
    assert told[f"{bad.name}/notes.py"].startswith("ValueError: its notes are none (")
    (documented,) = (each for each in listed["functions"] if each["name"] == "documented")
    assert documented["description"] == "\\ud800"


async def test_the_files_beside_those_run(own_client: httpx.AsyncClient, healthy: None, bad: Path) -> None:
    """The worker offers everything else; an annotation that raises is a reason, too."""
    assert (await follow(own_client, await start(own_client, "fine")))[0] == ["fine"]
    broken = {each["source"]: each["error"] for each in (await own_client.get("/functions")).json()["broken"]}
    assert "`annotated` is refused" in broken[f"{bad.name}/annotation.py"]
    assert "KeyboardInterrupt" in broken[f"{bad.name}/annotation.py"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_whatever_a_lifespan_raises_when_it_is_left(own_url: str, folders: str, number: signal.Signals) -> None:
    """The worker ends as it was told to, and logs each."""
    with worker_process(own_url, FUNCTIONS_PATH=folders, **QUICK) as process:
        process.signal(number)
        assert await asyncio.to_thread(process.wait) == 0
    assert process.output.count("lifespan exit failed") == 5


@pytest.mark.parametrize("place", ["in_gather", "in_a_group", "in_a_task", "in_a_callback", "in_a_timer", "when_done"])
async def test_an_exit_in_a_task_of_the_functions_own(own_client: httpx.AsyncClient, healthy: None, place: str) -> None:
    """The task that caused it fails with the exit code. The others do not notice."""
    assert await follow(own_client, await start(own_client, "exits_elsewhere", place=place)) == (
        [place],
        "failed",
        {"code": "error", "message": "SystemExit: 2"},
    )


async def test_a_library_that_exits(own_client: httpx.AsyncClient, healthy: None, worker: Process) -> None:
    """`argparse` exits if an argument is wrong: that fails one task."""
    chunks, end, why = await follow(own_client, await start(own_client, "exits_elsewhere", place="in_argparse"))
    assert (chunks, end, why["message"]) == (["in_argparse"], "failed", "SystemExit: 2")


@pytest.mark.parametrize("place", ["in_gather", "in_a_callback"])
async def test_an_exit_is_retried(own_client: httpx.AsyncClient, healthy: None, tmp_path: Path, place: str) -> None:
    """It is an error like any other."""
    task_id = await start(own_client, "exits_elsewhere_at_first", place=place, attempts=str(tmp_path / "attempts"))
    assert (await follow(own_client, task_id))[:2] == (["again"], "done")


@pytest.mark.parametrize("function", ["terminates", "terminates_a_bare_fork"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_to_a_process_that_a_function_forks(
    own_client: httpx.AsyncClient, healthy: None, function: str, number: signal.Signals
) -> None:
    """The process ends at once, by the signal: the worker's handlers are not its own."""
    ((seen,), _, _) = await follow(own_client, await start(own_client, function, number=int(number)))
    assert seen["code"] == -number
    assert seen["took"] < 3


@pytest.mark.parametrize("function", ["forks", "forks_in_a_thread"])
@pytest.mark.parametrize(("leaves", "code"), [("exit", 3), ("raise", 1), ("yield", 0), ("return", 0)])
async def test_a_process_that_a_function_forks(
    own_client: httpx.AsyncClient, healthy: None, function: str, leaves: str, code: int
) -> None:
    """The process exits where the function's code leaves it: no second worker goes on with the same connections."""
    chunks, end, _ = await follow(own_client, await start(own_client, function, leaves=leaves))
    assert (chunks, end) == ([{"before": True}, {"code": code}], "done")


async def test_an_exit_in_a_process_of_a_pool(own_client: httpx.AsyncClient, healthy: None) -> None:
    """The function gets the pool's exception."""
    assert (await follow(own_client, await start(own_client, "exits_in_a_pool")))[0] == ["SystemExit: 2"]


async def test_a_pool_that_is_left_while_it_is_busy(own_client: httpx.AsyncClient, healthy: None) -> None:
    """Its processes are gone at once."""
    ((took,), end, _) = await follow(own_client, await start(own_client, "leaves_a_busy_pool"))
    assert end == "done"
    assert took < 3


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(("function", "chunks"), [("doubles", [42]), ("maps", [[2, 4]])])
async def test_what_a_file_defines_goes_to_other_processes(
    own_url: str, own_client: httpx.AsyncClient, method: str, function: str, chunks: list[Any], healthy: None
) -> None:
    """Functions and dataclasses of the file itself can be pickled, however the process is started."""
    assert (await follow(own_client, await start(own_client, function, method=method)))[:2] == (chunks, "done")


async def test_two_folders_of_the_same_name(own_client: httpx.AsyncClient, healthy: None) -> None:
    """Each function gets what its own file makes: of files of the same name, of `a.b.py`, `a.py` and `a/b.py`."""
    modules = set()
    for team in ("a", "b", "dots", "beside"):
        ((tool, module),), _, _ = await follow(own_client, await start(own_client, f"tool_of_{team}"))
        assert tool == team
        modules.add(module)
    assert len(modules) == 4


async def test_a_file_imports_what_is_beside_it(own_client: httpx.AsyncClient, healthy: None) -> None:
    """Files beside it, in folders below it, and data; each module is loaded once, and its classes can be pickled."""
    chunks, end, _ = await follow(own_client, await start(own_client, "imports"))
    assert (chunks, end) == ([["beside", "below", "data", True, True]], "done")


@pytest.mark.parametrize("kind", ["of_a_future", "of_a_pool", "of_the_class", "of_the_task", "of_concurrent_futures"])
async def test_a_cancel_of_the_functions_own_is_an_error(
    own_client: httpx.AsyncClient, healthy: None, kind: str
) -> None:
    """The policy retries it. Only a stop by the client or the worker, and a time-out, are not errors."""
    seen = await events(own_client, await start(own_client, "is_cancelled_at_first", kind=kind))
    assert [event.event for event in seen] == ["message", "attempt", "message", "done"]
    assert data(seen) == [1, 2]


@pytest.mark.parametrize("pace", [0.01, 0])
@pytest.mark.parametrize(
    ("function", "last"),
    [("takes_time_out", "timed out after"), ("is_decorated", "timed out after"), ("has_a_group", "failed after")],
)
async def test_a_time_out_or_a_group_around_a_yield(
    own_client: httpx.AsyncClient, healthy: None, function: str, last: str, pace: float
) -> None:
    """The function sees it at any pace, and every chunk is there."""
    chunks, end, _ = await follow(own_client, await start(own_client, function, pace=pace))
    *numbers, said = chunks
    assert end == "done"
    assert numbers == list(range(len(numbers)))
    assert said in ({last: len(numbers)}, {last: len(numbers) - 1})  # it was met at the `yield`, or behind it


async def test_what_failed_in_a_group_is_told(own_client: httpx.AsyncClient, healthy: None) -> None:
    """The exceptions in it, however deep they are; many of them in a few words."""
    _, _, why = await follow(own_client, await start(own_client, "fails_in_a_group", depth=2, many=1))
    assert why["message"] == "ValueError: the API key 0 was refused"
    _, _, why = await follow(own_client, await start(own_client, "fails_in_a_group", depth=0, many=12))
    assert why["message"].startswith("ValueError: the API key 0 was refused; ValueError: the API key 1 was refused; ")
    assert why["message"].endswith("; and 2 more")


async def test_an_exception_without_words(own_client: httpx.AsyncClient, healthy: None) -> None:
    """Its type and its cause are told."""
    _, _, why = await follow(own_client, await start(own_client, "fails_without_words"))
    assert why["message"] == "RuntimeError, caused by ConnectionError: the socket is closed"


async def test_a_limit_is_a_limit_whatever_the_clean_up_raises(own_client: httpx.AsyncClient, healthy: None) -> None:
    """It is told, and not retried."""
    chunks, end, why = await follow(own_client, await start(own_client, "fails_while_it_cleans_up"))
    assert (chunks, end, why["code"]) == ([0, 1], "failed", "limit")
