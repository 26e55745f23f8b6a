"""The JavaScript of docs/api.md: a page follows a task by tickets, also when one is over before the task is."""

import subprocess
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.documents import script_of
from tests.support.key_files import TICKET_KEY, KeyFile, bearer
from tests.support.processes import ROOT, Process, api_process
from tests.support.programs import missing, program
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.program

PACKAGE: Final = "eventsource@4.1.0"

# Seconds for npm to install it.
INSTALL_S: Final = 100

# A task that lasts for several tickets.
NUMBERS: Final = 20
EVERY_S: Final = 0.2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The function of the document, in a file beside the program that runs it."""
    folder: Path = tmp_path_factory.mktemp("page")
    (folder / "follow.js").write_text(script_of("docs/api.md"))
    (folder / "event_source.mjs").write_text((ROOT / "tests/support/event_source.mjs").read_text())
    (folder / "package.json").write_text('{"type": "module"}')
    install = [program("npm"), "install", "--no-audit", "--no-fund", "--prefer-offline", PACKAGE]
    try:
        subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=True)
    except subprocess.SubprocessError as error:
        missing(f"npm cannot install {PACKAGE}: {error}")
    return folder


@pytest.mark.timeout(300)
def test_a_page(redis_url: str, worker: Process, key_file: KeyFile, page: Path) -> None:
    """It gets every chunk once and in order, by several tickets, each for one stream of a second or two."""
    settings = {"TAILRACE_KEYS_FILE": str(key_file.path), "TAILRACE_TICKET_KEYS": TICKET_KEY}
    times = {"TAILRACE_TICKET_OPEN_S": "1", "TAILRACE_TICKET_STREAM_S": "1.5", "TAILRACE_HEARTBEAT_S": "0.3"}
    key = key_file.add("a page's own server")
    with api_process(redis_url, TAILRACE_AUTH="keys", **settings, **times) as api:
        body = {"to": NUMBERS, "every": EVERY_S}
        task_id = httpx.post(f"{api.url}/functions/count/tasks", json=body, headers=bearer(key)).json()["task_id"]
        command = [program("node"), "event_source.mjs", api.url, key, task_id, "follow.js"]
        done = subprocess.run(command, cwd=page, capture_output=True, text=True, timeout=4 * DEADLINE_S)
        assert (done.returncode, done.stderr) == (0, "")
        *chunks, tickets = done.stdout.splitlines()
        assert chunks == [str(number) for number in range(1, NUMBERS + 1)]
        assert int(tickets.removeprefix("tickets: ")) > 1
