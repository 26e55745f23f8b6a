"""An API that asks for keys, beside the other APIs, and its file."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.key_files import TICKET_KEY, KeyFile
from tests.support.processes import Api, Process, api_process


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    """The file of this module's API."""
    folder: Path = tmp_path_factory.mktemp("keys")
    return KeyFile(folder / "keys.json")


@pytest.fixture(scope="module")
def guarded(redis_url: str, worker: Process, key_file: KeyFile) -> Iterator[Api]:
    """An API that asks for keys. Its streams look at their rights often."""
    settings = {"TAILRACE_KEYS_FILE": str(key_file.path), "TAILRACE_TICKET_KEYS": TICKET_KEY}
    with api_process(redis_url, TAILRACE_AUTH="keys", TAILRACE_HEARTBEAT_S="0.5", **settings) as api:
        yield api


@pytest.fixture
async def callers(guarded: Api) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of that API, without a credential of its own."""
    async with httpx.AsyncClient(base_url=guarded.url, timeout=30) as client:
        yield client
