"""The README tells the truth: its examples are run, its file map is checked."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from services.api.settings import Settings as ApiSettings
from services.worker.settings import Settings as WorkerSettings
from tests.support.client import follow, start
from tests.support.processes import FUNCTIONS, ROOT, Api, api_process, worker_process
from tests.support.waiting import DEADLINE_S

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def transcript(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it printed."""
    commands = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (each.partition("\n") for each in commands)]


def normal(output: str) -> str:
    """An output without what differs each time."""
    output = re.sub(r"[0-9a-f]{32}", "<id>", output)
    output = re.sub(r"retry: \d{4}", "retry: <ms>", output)
    output = re.sub(r'version":"[0-9a-f]{12}"', 'version":"<hash>"', output)
    return re.sub(r'_at":\d{13}', '_at":<ms>', output).rstrip("\n")


@pytest.mark.parametrize("block", blocks("console"))
def test_the_transcripts(api: Api, block: str) -> None:
    """What the README shows is what one sees."""
    commands = transcript(block)
    assert commands
    mark = "--- next ---"
    script = f"\necho '{mark}'\n".join(command for command, _ in commands).replace("http://127.0.0.1:8000", api.url)
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, check=True)

    outputs = shell.stdout.split(f"{mark}\n")
    assert [normal(output) for output in outputs] == [normal(output) for _, output in commands]


@pytest.mark.anyio
async def test_the_function_of_your_own(own_database: str, tmp_path: Path) -> None:
    """The README's functions, dropped into a folder, are listed and run."""
    sources = blocks("python")
    names = [re.findall(r"# functions/(\w+\.py)", source) for source in sources]
    assert names == [["shout.py"], ["collect.py"]]
    for (name,), source in zip(names, sources, strict=True):
        await asyncio.to_thread((tmp_path / name).write_text, source)
    path = os.pathsep.join([FUNCTIONS, str(tmp_path)])
    with worker_process(own_database, FUNCTIONS_PATH=path), api_process(own_database) as its_api:
        async with httpx.AsyncClient(base_url=its_api.url) as client:
            listed = (await client.get("/functions/shout")).json()
            assert listed["description"] == "Say it loud, and again."
            assert set(listed["input"]["properties"]) == {"text", "times"}
            assert (await follow(client, await start(client, "shout", text="hey", times=2)))[0] == ["HEY", "HEY"]
            pages = [{"page": page} for page in (1, 2, 3)]
            assert (await follow(client, await start(client, "collect", pages=3)))[0] == pages


def test_the_file_map() -> None:
    """Every path that the README names exists. (That docs/layout.md is the tree: tests/unit/test_layout.py.)"""
    table = README.partition("## Where things are")[2]
    for path in re.findall(r"`([\w./]+)`", table):
        if "/" in path or "." in path or path == "Procfile":
            assert (ROOT / path).exists() or (ROOT / "plugins" / path).exists(), f"{path} is named but not there"


def test_the_settings() -> None:
    """docs/settings.md lists the settings that there are, with their defaults, and no other."""
    listed = dict(
        re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    )
    there = {
        str(field.validation_alias or f"TAILRACE_{name.upper()}"): f"{field.default}"
        for settings in (ApiSettings, WorkerSettings)
        for name, field in settings.model_fields.items()
    }
    assert listed == there


def test_what_reliability_refers_to() -> None:
    """Every test that docs/reliability.md names exists, so that no promise is left without one."""
    text = (ROOT / "docs" / "reliability.md").read_text().replace("…/workers/", "integration/workers/")
    named = re.findall(r"`((?:integration|chaos)/[\w/]+\.py)`", text.replace("`…/test_", "`integration/workers/test_"))
    assert len(named) > 40
    assert [path for path in named if not (ROOT / "tests" / path).exists()] == []
