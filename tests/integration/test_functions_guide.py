"""docs/functions.md tells the truth: its functions run, its tests pass, and the examples it names do what it says."""

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from plugins.function import Policy
from tests.support.client import events, follow, start
from tests.support.documents import blocks, read, write_files
from tests.support.processes import ROOT, api_process, worker_process
from tests.support.redis_servers import EmbeddedRedis
from tests.support.settings import QUICK
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio

GUIDE = read("docs/functions.md")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's files, and ours beside them."""
    place = tmp_path_factory.mktemp("guide")
    write_files("docs/functions.md", place)
    (place / "functions" / "__init__.py").touch()  # as ours has it
    return place


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where examples/dice is installed, as the guide says."""
    place = tmp_path_factory.mktemp("site")
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    source = tmp_path_factory.mktemp("dice")  # a build leaves its traces
    shutil.copytree(ROOT / "examples" / "dice", source, dirs_exist_ok=True)
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(place), str(source)]
    subprocess.run(install, check=True, timeout=60)
    return place


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A Redis of these tests' own."""
    with EmbeddedRedis() as redis:
        yield redis.url


@pytest.fixture
async def client(server: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API of these tests' own."""
    with api_process(server, **QUICK) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
            yield client


async def test_the_functions_of_the_guide(server: str, client: httpx.AsyncClient, place: Path, package: Path) -> None:
    """Each is listed as the guide says, and runs."""
    settings = {"FUNCTIONS_PATH": str(place / "functions"), "PYTHONPATH": str(package)}
    with worker_process(server, **QUICK, **settings):
        catalogue = (await client.get("/functions")).json()
        assert catalogue["broken"] == []
        names = {file.stem for file in (place / "functions").glob("[!_]*.py")}
        assert {each["name"] for each in catalogue["functions"]} == names | {"dice"}
        assert len(names) == 9

        greet = (await client.get("/functions/greet")).json()
        assert greet["description"] == "Greet a person."
        assert greet["input"]["properties"]["name"] == {"type": "string", "description": "the person."}
        assert greet["output"] == {"type": "string", "description": "One greeting."}
        command = re.findall(r"^\$ (curl .*greet/tasks.*)$", GUIDE, re.MULTILINE)[0]
        url = str(client.base_url).rstrip("/")
        shell = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", command.replace("http://127.0.0.1:8000", url)],
            capture_output=True, text=True, check=True, timeout=DEADLINE_S,
        )  # fmt: skip
        task_id = re.findall(r'"task_id":"([0-9a-f]{32})"', shell.stdout)[0]
        assert (await follow(client, task_id))[0] == ["Hello, Ada!", "Hello, Ada!"]

        items = [{"size": "small"}, {"size": "large", "count": 3}]
        assert (await follow(client, await start(client, "order", items=items)))[0] == [{"small": 1, "large": 3}]
        faulty = {"items": [{"size": "huge"}], "delivery": "pigeon", "due": "2026-01-01T00:00:00"}
        answer = await client.post("/functions/order/tasks", json=faulty)
        pointers = {fault["pointer"] for fault in answer.json()["errors"]}
        assert (answer.status_code, pointers) == (400, {"/items/0/size", "/delivery", "/due"})

        seen = await events(client, await start(client, "steps", total=1))
        assert [event.event for event in seen] == ["progress", "found", "message", "done"]
        assert (await follow(client, await start(client, "fetch", host="a.example")))[0] == ["https://a.example/"]
        assert (await follow(client, await start(client, "watch", looks=3, every=0)))[0] == [0, 1, 2]
        assert (await follow(client, await start(client, "rank", texts=["bad", "good"])))[0] == [["good", "bad"]]
        why = {"code": "error", "message": "only known callers have a folder"}
        assert await follow(client, await start(client, "folder")) == ([], "failed", why)
        why = {"code": "error", "message": "nobody sells pear here"}
        assert await follow(client, await start(client, "quote", fruit="pear")) == ([], "failed", why)
        assert (await follow(client, await start(client, "price", fruit="pear", count=2)))[0] == [1.5]
        rolled, end, _ = await follow(client, await start(client, "dice", dice=5, seed=1))
        assert (len(rolled), end) == (5, "done")


def test_the_tests_of_the_guide(place: Path) -> None:
    """The tests that the guide shows pass."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(place)]
    command = [sys.executable, "-m", "pytest", *options, str(place / "tests")]
    done = subprocess.run(command, env=env, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert "4 passed" in done.stdout, done.stdout


def test_the_package_of_the_guide() -> None:
    """The guide quotes examples/dice word for word."""
    (shown,) = (block.text for block in blocks("docs/functions.md") if block.language == "toml")
    assert shown in (ROOT / "examples" / "dice" / "pyproject.toml").read_text()


def test_the_table_of_the_policy() -> None:
    """Every argument of `@function` is in it."""
    table = GUIDE.partition("| `@function(…)` |")[2].partition("\n\n")[0]
    assert [field for field in Policy.__struct_fields__ if f"`{field}`" not in table] == []


async def test_an_import_survives_its_worker(server: str, client: httpx.AsyncClient, tmp_path: Path) -> None:
    """kill -9 in the middle of the example's import: another worker goes on, readers see every batch once, and every
    order is there.
    """
    database = tmp_path / "orders.sqlite3"
    settings = {**QUICK, "FUNCTIONS_PATH": "functions", "ORDERS_DB": str(database)}
    with worker_process(server, **settings) as first:
        task_id = await start(client, "import_orders", orders=2_000, every=0.3)
        await events(client, task_id, most=5)
        first.kill()
    with worker_process(server, **settings):
        seen = await events(client, task_id)
    done = [int(re.findall(r'"done":(\d+)', event.data)[0]) for event in seen if event.event == "progress"]
    assert done == list(range(100, 2_001, 100))
    assert [event.event for event in seen if event.event != "progress"] == ["attempt", "done"]
    with closing(sqlite3.connect(database)) as orders:
        assert orders.execute("SELECT count(*), min(number), max(number) FROM orders").fetchone() == (2_000, 1, 2_000)
