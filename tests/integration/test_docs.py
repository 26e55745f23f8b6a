"""The documents are correct: their transcripts are run, and the files and names in them exist."""

import os
import re
from pathlib import Path
from typing import Final

import pytest
from pydantic_core import PydanticUndefined

from services.api.app import create_app
from services.api.settings import Settings as ApiSettings
from services.worker.settings import Settings as WorkerSettings
from tests.support.documents import PAGES, anchors, blocks, links, normal, prose, read, run, transcript, write_files
from tests.support.processes import FUNCTIONS, GUARD, ROOT, api_process, worker_process

# The pages with transcripts, each run with the functions that it shows.
TRANSCRIPTS: Final = [page for page in PAGES if any(block.language == "console" for block in blocks(page))]

# The tests that run the Python of a page.
PYTHON: Final = {"README.md": "test_readme.py", "docs/functions.md": "test_functions_guide.py"}

# The blocks that are no transcript and no Python: by page and first line, with why no test here runs them.
NOT_RUN: Final = {
    ("README.md", "make run     #"): ".ci/newcomer runs both commands in a fresh clone",
    ("README.md", "docker compose"): "builds images, which needs an engine and a registry",
    ("docs/api.md", "async function follow"): "identity/test_event_source.py runs it in Node",
    ("docs/deploy.md", '{"limits"'): "identity/test_limits_of_keys.py has such limits",
    ("docs/deploy.md", "python -m services.api.keys add --owner ada --file"): "needs a cluster",
    ("docs/deploy.md", "docker compose"): "builds images, which needs an engine and a registry",
    ("docs/deploy.md", "services:"): "needs an engine",
    ("docs/deploy.md", "sudo install"): "needs an engine",
    ("docs/deploy.md", "hash() {"): "test_least_rights.py runs it, and starts a Redis with the file",
    ("docs/deploy.md", "auth_basic "): "test_proxies.py puts it into deploy/nginx.conf",
    ("docs/deploy.md", "TAILRACE_AUTH=proxy"): "test_proxies.py starts an API with it",
    ("docs/deploy.md", "PYTHON_IMAGE="): "digests are for operators to look up",
    ("docs/deploy.md", "uvicorn --factory"): "tests/support/processes.py starts all processes with these commands",
    ("docs/deploy.md", "TAILRACE_AUTH=jwt"): "test_tokens.py starts APIs with these variables",
    ("docs/design.md", "client ─POST"): "a diagram",
    ("docs/design.md", "stateDiagram-v2"): "a diagram; test_order_of_ends.py and integration/workers see its arrows",
    ("docs/functions.md", "[project.entry-points"): "test_functions_guide.py compares it with examples/dice",
    ("tests/README.md", "make test  "): "ways to run what is running",
    ("docs/layout.md", "plugins/ "): "a map; tests/unit/test_layout.py compares it with the tree",
}


@pytest.mark.parametrize("page", TRANSCRIPTS)
def test_the_transcripts(page: str, own_database: str, tmp_path: Path) -> None:
    """Each command of a page prints what the page says, if a worker has the functions that the page shows."""
    write_files(page, tmp_path)
    (tmp_path / "functions").mkdir(exist_ok=True)
    path = os.pathsep.join([FUNCTIONS, str(tmp_path / "functions")])
    with worker_process(own_database, FUNCTIONS_PATH=path), api_process(own_database) as api:
        for block in blocks(page):
            if block.language == "console":
                shown = [normal(output) for _, output in transcript(block)]
                assert shown, block
                assert [normal(output) for output in run(block, api.url)] == shown, block


def test_every_block_is_run() -> None:
    """No block of any page is left out: it is a transcript, a file that a test runs, or not run for a reason."""
    left = dict(NOT_RUN)
    unknown = []
    for block in (block for page in PAGES for block in blocks(page)):
        if block.language == "console" or (block.language == "python" and block.path and block.page in PYTHON):
            continue
        reason = next((key for key in left if key[0] == block.page and block.text.startswith(key[1])), None)
        if reason is None:
            unknown.append(str(block))
        else:
            del left[reason]
    assert (unknown, left) == ([], {})


@pytest.mark.parametrize("page", PAGES)
def test_the_links(page: str) -> None:
    """Every link within the repository leads to a file, and to a heading if it names one."""
    wrong = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(os.path.relpath(path, ROOT))):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_the_paths(page: str) -> None:
    """Every path of the repository that a page names exists."""
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", prose(read(page)))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_folders_of_the_tests() -> None:
    """tests/README.md says of every folder of the tests what it is for."""
    folders = {f"{file.parent.relative_to(ROOT)}/" for file in (ROOT / "tests").rglob("*.py")} - {"tests/"}
    assert folders == set(re.findall(r"^\| `(tests/[\w/]+)` \|", read("tests/README.md"), re.MULTILINE))


@pytest.mark.parametrize("path", ["docs/deploy.md", "services/api/Dockerfile", "Procfile"])
@pytest.mark.parametrize("option", ["--timeout-keep-alive 75", f"--http {GUARD}", "--no-server-header"])
def test_the_command_of_the_api(path: str, option: str) -> None:
    """Wherever it stands, it keeps idle connections for longer than proxies and clients do, bounds requests, and does
    not name the server.
    """
    commands = [line for line in read(path).splitlines() if "services.api.app:create_app" in line]
    assert commands
    assert all(option in re.sub('[",]', "", command) for command in commands)


def test_the_settings() -> None:
    """docs/settings.md lists the settings that there are, with their defaults, and no other: `required` and `unset`
    where there is none.
    """
    without = {str(PydanticUndefined): "required", str(None): "unset"}
    listed = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", read("docs/settings.md"), re.MULTILINE))
    there = {
        str(field.validation_alias or f"TAILRACE_{name.upper()}"): without.get(str(field.default), str(field.default))
        for settings in (ApiSettings, WorkerSettings)
        for name, field in settings.model_fields.items()
    }
    assert listed == there


@pytest.mark.parametrize("page", ["docs/reliability.md", "docs/security.md"])
def test_the_tests_that_a_page_names(page: str) -> None:
    """Every test that the page names exists, so that no promise and no bound is left without one."""
    named = re.findall(r"`((?:integration|chaos|simulation|unit|workers)/[\w/]+\.py)`", read(page))
    paths = [path if not path.startswith("workers/") else f"integration/{path}" for path in named]
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / "tests" / path).exists()] == []


def test_the_calls() -> None:
    """docs/api.md lists every call that the API takes, and no other."""
    listed = set(
        re.findall(r"`([A-Z]+ /[^`?\s]*)", read("docs/api.md").partition("## The calls")[2].partition("\n## ")[0])
    )
    paths = create_app(ApiSettings()).openapi_schema.to_schema()["paths"]
    there = {f"{method.upper()} {path}" for path, calls in paths.items() for method in calls}
    assert {call.replace("{task_id}", "{id}") for call in there} | {"GET /schema"} == listed
