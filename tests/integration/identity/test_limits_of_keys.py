"""Limits of an API key count in the place of the settings: they hold its owner, and no other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from services.api.http.quotas import Limits
from services.api.identity.key_file import KeyFileError, read
from tests.support.client import start
from tests.support.key_files import KeyFile, bearer
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LINES: Final = {"Accept": "application/x-ndjson"}

SLOW: Final[dict[str, Any]] = {"function": "count", "input": {"to": 2, "every": 3600}}


def told(answer: httpx.Response, kind: str, limit: int, name: str) -> None:
    """The answer is 429: it names the limit of the key, and its value, and says whose it is."""
    body = answer.json()
    assert (answer.status_code, body["type"]) == (429, f"urn:tailrace:problem:{kind}"), answer.text
    assert (body["limit"], body["setting"]) == (limit, f"limits.{name}")
    assert "an owner with this API key" in body["detail"]
    assert body["detail"].endswith(f"(limits.{name}).")
    assert int(answer.headers["retry-after"]) >= 1


async def known(client: httpx.AsyncClient, *keys: str) -> None:
    """Wait until the API has read these keys."""
    for key in keys:

        async def is_known(key: str = key) -> bool:
            return (await client.get("/schema", headers=bearer(key))).status_code == 200

        await until(is_known, "the key is known")


@pytest.fixture
async def clients(callers: httpx.AsyncClient, key_file: KeyFile) -> AsyncIterator[httpx.AsyncClient]:
    """The client. Tasks that the test leaves are purged."""
    yield callers
    root = key_file.add("root", "tasks", "admin")
    await known(callers, root)
    for owner in {record.owner for record in key_file.records.values()}:
        key = key_file.add(owner)
        await known(callers, key)
        for task in (await callers.get("/tasks?limit=100", headers=bearer(key))).json()["tasks"]:
            await callers.delete(f"/tasks/{task['task_id']}?purge=true", headers=bearer(root))
    key_file.clear()


async def test_requests(clients: httpx.AsyncClient, key_file: KeyFile) -> None:
    """Of forty requests at once those beyond the key's burst are refused. Another owner's at the same time are not."""
    ada = key_file.add("ada", limits=Limits(requests=1, burst=5))
    bob = key_file.add("bob")
    await known(clients, ada, bob)

    async def at_once(key: str) -> list[httpx.Response]:
        return await asyncio.gather(*(clients.get("/tasks", headers=bearer(key)) for _ in range(40)))

    noisy, quiet = await asyncio.gather(at_once(ada), at_once(bob))
    refused = [answer for answer in noisy if answer.status_code != 200]
    assert len(refused) >= 30
    for answer in refused:
        told(answer, "too-many-requests", 1, "requests")
    assert {answer.status_code for answer in quiet} == {200}


async def test_streams(clients: httpx.AsyncClient, key_file: KeyFile) -> None:
    """The second stream is refused, and so is a long-poll. The owner's other key has its own limit, the settings'."""
    ada, wide = key_file.add("ada", limits=Limits(streams=1)), key_file.add("ada")
    bob = key_file.add("bob")
    await known(clients, ada, wide, bob)
    path = f"/tasks/{await start(clients, 'count', bearer(ada), to=2, every=3600)}"
    other = f"/tasks/{await start(clients, 'count', bearer(bob), to=2, every=3600)}"
    async with clients.stream("GET", f"{path}/stream", headers=bearer(ada)) as first:
        assert first.status_code == 200
        for answer in (
            await clients.get(f"{path}/stream", headers=bearer(ada)),
            await clients.get(f"{path}/stream", headers=bearer(ada) | LINES),
            await clients.get(f"{path}/chunks?after=tail&wait=45", headers=bearer(ada)),
            await clients.post("/tasks", json=SLOW, headers=bearer(ada) | LINES),
        ):
            told(answer, "too-many-streams", 1, "streams")
        for key, url in ((wide, path), (bob, other)):
            async with clients.stream("GET", f"{url}/stream", headers=bearer(key)) as response:
                assert response.status_code == 200


async def test_tasks(clients: httpx.AsyncClient, key_file: KeyFile) -> None:
    """Open tasks of all keys of the owner count, and each key is judged by its own limit."""
    ada, wide = key_file.add("ada", limits=Limits(tasks=2)), key_file.add("ada", limits=Limits(tasks=3))
    bob = key_file.add("bob")
    await known(clients, ada, wide, bob)

    async def post(key: str) -> httpx.Response:
        return await clients.post("/tasks", json=SLOW, headers=bearer(key))

    assert [(await post(key)).status_code for key in (ada, wide)] == [202, 202]
    told(await post(ada), "too-many-tasks", 2, "tasks")
    assert (await post(wide)).status_code == 202
    told(await post(wide), "too-many-tasks", 3, "tasks")
    assert (await post(bob)).status_code == 202


async def test_a_limit_changes_with_the_file(clients: httpx.AsyncClient, key_file: KeyFile) -> None:
    """The API judges by the new limit without a restart, although it remembers the key's caller."""
    ada = key_file.add("ada", limits=Limits(tasks=1))
    await known(clients, ada)

    async def post() -> httpx.Response:
        return await clients.post("/tasks", json=SLOW, headers=bearer(ada))

    assert (await post()).status_code == 202
    told(await post(), "too-many-tasks", 1, "tasks")
    key_file.change(ada, limits=Limits(tasks=2))

    async def accepted() -> bool:
        return (await post()).status_code == 202

    await until(accepted, "there is room", pause_s=0.1)
    told(await post(), "too-many-tasks", 2, "tasks")


@pytest.mark.parametrize(
    ("limits", "wrong"),
    [
        ('{"requests": 0}', "Expected `int` >= 1 - at `$.keys[...].limits.requests`"),
        ('{"streams": 1.5}', "Expected `int | null`, got `float` - at `$.keys[...].limits.streams`"),
        ('{"tasks": -1}', "Expected `int` >= 1 - at `$.keys[...].limits.tasks`"),
        ('{"request": 1}', "Object contains unknown field `request` - at `$.keys[...].limits`"),
    ],
)
def test_a_limit_that_is_none(tmp_path: Path, limits: str, wrong: str) -> None:
    """A file with such a limit is not taken. The message says where it is wrong."""
    path = tmp_path / "keys.json"
    path.write_text(f'{{"keys": {{"a": {{"sha256": "{"0" * 64}", "owner": "ada", "limits": {limits}}}}}}}')
    with pytest.raises(KeyFileError) as refused:
        read(path)
    assert str(refused.value) == wrong
