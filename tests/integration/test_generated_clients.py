"""Clients that generators make of the OpenAPI document start functions, follow by pages, cancel, and read a problem."""

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from services.api.identity.api_keys import new_key
from tests.support.key_files import KeyFile, bearer
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
def url(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database whose worker has the namesakes, too."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "namesakes.py").write_text(NAMESAKES)
    path = os.pathsep.join([FUNCTIONS, str(folder)])
    with databases.one() as url, worker_process(url, FUNCTIONS_PATH=path):
        yield url


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[Api]:
    """An API without authentication."""
    with api_process(url) as api:
        yield api


@pytest.fixture
def schema(api: Api, tmp_path: Path) -> Path:
    """The document, in a file."""
    path = tmp_path / "schema.json"
    path.write_text(httpx.get(f"{api.url}/schema").text)
    return path


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """A function that returns the name of the package that openapi-python-client makes of a document, of all of it."""

    def made_of(schema: Path) -> str:
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
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    return made_of


def test_openapi_python_client(api: Api, schema: Path, generated: Callable[[Path], str]) -> None:
    """It drops nothing of the document, and what it makes of it works."""
    package = generated(schema)

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


def test_openapi_python_client_with_a_key(url: str, tmp_path: Path, generated: Callable[[Path], str]) -> None:
    """Of an API that asks for keys: each call but those of health is for clients that have one, in either header."""
    key_file = KeyFile(tmp_path / "keys.json")
    key = key_file.add("ada", "tasks", "functions:count")
    schema = tmp_path / "schema.json"
    with api_process(url, TAILRACE_AUTH="keys", TAILRACE_KEYS_FILE=str(key_file.path)) as api:
        schema.write_text(httpx.get(f"{api.url}/schema", headers=bearer(key)).text)
        package = generated(schema)
        clients = importlib.import_module(f"{package}.client")
        models = importlib.import_module(f"{package}.models")
        start = importlib.import_module(f"{package}.api.functions.start_count").sync
        listed = importlib.import_module(f"{package}.api.tasks.tasks_list_tasks").sync
        live = importlib.import_module(f"{package}.api.health.health_live_live").sync
        assert inspect.signature(start).parameters["client"].annotation == clients.AuthenticatedClient
        with clients.Client(base_url=api.url) as client:
            assert live(client=client).to_dict() == {"status": "ok"}
        with clients.AuthenticatedClient(base_url=api.url, token=key) as client:
            task = start(client=client, body=models.FunctionCountInput(to=5))
            assert [each.task_id for each in listed(client=client).tasks] == [task.task_id]
        header = {"prefix": "", "auth_header_name": "X-API-Key"}
        with clients.AuthenticatedClient(base_url=api.url, token=key, **header) as client:
            assert [each.task_id for each in listed(client=client).tasks] == [task.task_id]
        with clients.AuthenticatedClient(base_url=api.url, token=new_key()[0]) as client:
            refused = listed(client=client)
            assert (refused.status, refused.type_) == (401, "urn:tailrace:problem:invalid-credential")


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
