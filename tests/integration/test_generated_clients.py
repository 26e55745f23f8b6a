"""Clients that generators make of the OpenAPI document start functions, follow by pages, cancel, and read a problem."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.support.npm import install
from tests.support.processes import FUNCTIONS, ROOT, Api, api_process, worker_process
from tests.support.programs import program
from tests.support.redis_servers import Databases

# Functions whose names, and whose classes' names, are those of others.
NAMESAKES: Final = '''
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from plugins import function


@dataclass
class Message:
    text: str
    answers: list["Message"]


@dataclass
class Cat:
    kind: Literal["cat"]


@dataclass
class Dog:
    kind: Literal["dog"]


@function
def page(messages: list[Message], pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> int:
    """A page."""
    return len(messages)
'''

PACKAGES: Final = ["openapi-typescript@7.13.0", "openapi-fetch@0.15.0", "typescript@5.9.3"]


@pytest.fixture(scope="module")
def api(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose worker has the namesakes, too."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "namesakes.py").write_text(NAMESAKES)
    path = os.pathsep.join([FUNCTIONS, str(folder)])
    with databases.one() as url, worker_process(url, FUNCTIONS_PATH=path), api_process(url) as api:
        yield api


@pytest.fixture
def schema(api: Api, tmp_path: Path) -> Path:
    """The document, in a file."""
    path = tmp_path / "schema.json"
    path.write_text(httpx.get(f"{api.url}/schema").text)
    return path


@pytest.fixture
def package(schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The package that openapi-python-client makes of the document, of all of it; its name."""
    name = f"generated_{uuid4().hex}"
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"post_hooks": []}))
    command = ["generate", "--path", str(schema), "--output-path", str(tmp_path / name), "--meta", "none"]
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", *command, "--config", str(config), "--fail-on-warning"],
        capture_output=True,
        text=True,
    )
    assert (made.returncode, made.stderr) == (0, ""), made.stdout + made.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_openapi_python_client(api: Api, package: str) -> None:
    """It drops nothing of the document, and what it makes of it works."""

    def call(name: str) -> Any:
        return importlib.import_module(f"{package}.api.{name}").sync

    def entries(task_id: str) -> list[Any]:
        found, after, ended = [], -1, False
        while not ended:
            page = chunks(task_id, client=client, after=str(after), limit=2, wait=5.0)
            found += page.entries
            after, ended = page.next_, page.ended
        return found

    models = importlib.import_module(f"{package}.models")
    chunks = call("tasks.tasks_task_id_chunks_chunks")
    with importlib.import_module(f"{package}.client").Client(base_url=api.url) as client:
        messages = [models.FunctionChatMessage(role=models.FunctionChatMessageRole.USER, content="Hi")]
        task = call("functions.start_chat")(client=client, body=models.FunctionChatInput(messages=messages))
        assert entries(task.task_id)

        answers = [models.FunctionPageMessage(text="one", answers=[models.FunctionPageMessage("two", [])])]
        body = models.FunctionPageInput(messages=answers, pet=models.FunctionPageCat("cat"))
        task = call("functions.start_page")(client=client, body=body)
        assert entries(task.task_id)[0].data == 1

        start_count = call("functions.start_count")
        body = models.FunctionCountInput(to=5)
        task = start_count(client=client, body=body, idempotency_key=uuid4().hex)
        assert [entry.data for entry in entries(task.task_id)] == [1, 2, 3, 4, 5, {"chunks": 5}]

        task = start_count(client=client, body=models.FunctionCountInput(to=100, every=3_600.0))
        cancelled = call("tasks.tasks_task_id_cancel")(task.task_id, client=client)
        assert (cancelled.status, cancelled.end.to_dict()) == ("cancelled", {"by": "client"})

        refused = chunks(task.task_id, client=client, limit=0)
        assert (refused.status, refused.type_) == (400, "urn:tailrace:problem:invalid-limit")
        unknown = call("tasks.tasks_task_id_status")(uuid4().hex, client=client)
        assert (unknown.status, unknown.type_) == (404, "urn:tailrace:problem:unknown-task")


@pytest.mark.program
@pytest.mark.timeout(300)
def test_openapi_typescript(api: Api, schema: Path, tmp_path: Path) -> None:
    """A client with its types compiles, and works."""

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    node = program("node")
    modules = install(PACKAGES, tmp_path)
    shutil.copy(ROOT / "tests/support/client.ts", tmp_path)
    generate = [f"{modules}/openapi-typescript/bin/cli.js", str(schema), "-o", "schema.ts"]
    run(node, *generate, "--default-non-nullable=false")
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"]
    run(node, f"{modules}/typescript/bin/tsc", *options, "client.ts")
    assert run(node, "client.js", api.url) == "all as it should be\n"
