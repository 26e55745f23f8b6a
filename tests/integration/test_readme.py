"""The README's own function runs. (Its transcripts and links, with those of the other pages: test_docs.py.)"""

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from tests.support.client import follow, start
from tests.support.documents import read, write_files
from tests.support.processes import FUNCTIONS, api_process, worker_process


@pytest.mark.anyio
async def test_the_function_of_your_own(own_database: str, tmp_path: Path) -> None:
    """The README's function, dropped into a folder, is listed and runs."""
    assert await asyncio.to_thread(write_files, "README.md", tmp_path) == ["functions/shout.py"]
    path = os.pathsep.join([FUNCTIONS, str(tmp_path / "functions")])
    with worker_process(own_database, FUNCTIONS_PATH=path), api_process(own_database) as api:
        async with httpx.AsyncClient(base_url=api.url) as client:
            listed = (await client.get("/functions/shout")).json()
            assert listed["description"] == "Say it loud, and again."
            assert set(listed["input"]["properties"]) == {"text", "times"}
            assert (await follow(client, await start(client, "shout", text="hey", times=2)))[0] == ["HEY", "HEY"]


def test_the_map_is_named() -> None:
    """The README leads to the map of files. (That docs/layout.md is the tree: tests/unit/test_layout.py.)"""
    assert "[docs/layout.md](docs/layout.md) | the map: every file of `plugins/` and `services/`" in read("README.md")
