"""Every task ends, whatever its function does against it."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
from tests.support.client import events, follow, start
from tests.support.messages import queue_empty
from tests.support.processes import Process

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("surrogate", "ValueError: half an emoji: ?"),
        ("unsayable", "UnsayableError"),
        ("interrupt", "KeyboardInterrupt: not yours to raise"),
        ("base", "BaseException: below all"),
        ("long", "ValueError: " + "x" * 1_988),
    ],
)
async def test_exceptions_that_are_hard_to_say(
    client: httpx.AsyncClient, redis: Redis, what: str, message: str
) -> None:
    """The chunks before it arrive, and an end that says what can be said; the next task runs."""
    chunks, end, why = await follow(client, await start(client, "raises_what", what=what))

    assert (chunks, end, why) == ([1], "failed", {"code": "error", "message": message})
    assert (await follow(client, await start(client, "count", to=1)))[1] == "done"


async def test_a_function_that_does_not_stop_at_its_time_out(client: httpx.AsyncClient, redis: Redis) -> None:
    """It is left behind: its task ends as `timeout`, and nothing that it yields later gets into the log."""
    task_id = await start(client, "stubborn")
    _, end, why = await follow(client, task_id)

    assert (end, why["code"]) == ("failed", "timeout")
    length = await redis.llen(keys.log(task_id))
    assert (await follow(client, await start(client, "count", to=3)))[1] == "done"
    assert await redis.llen(keys.log(task_id)) == length


async def test_a_clean_up_that_never_ends(
    client: httpx.AsyncClient, redis: Redis, worker: Process, tmp_path: Path
) -> None:
    """A cancelled function whose clean-up hangs gives its slot back after a grace."""
    note = tmp_path / "note"
    task_id = await start(client, "never_cleaned_up", note=str(note))
    await events(client, task_id, most=1)
    assert (await client.delete(f"/tasks/{task_id}")).status_code == 202
    await asyncio.to_thread(worker.wait_for, rf"function did not stop, abandoned.*{task_id}")
    assert await asyncio.to_thread(note.exists)


async def test_a_message_that_is_not_from_the_api(client: httpx.AsyncClient, redis: Redis) -> None:
    """Garbage on the queue is dropped, and the tasks behind it run."""
    await redis.xadd(keys.QUEUE, {"nonsense": "1"})
    await redis.xadd(keys.QUEUE, {"data": "not a message"})
    assert (await follow(client, await start(client, "count", to=1)))[1] == "done"
    await queue_empty(redis)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{api}"},
    ],
)
async def test_a_page_of_another_site_starts_nothing(
    client: httpx.AsyncClient, redis: Redis, headers: dict[str, str]
) -> None:
    """A site in the operator's browser must not start functions on the operator's machine, nor cancel them."""
    api = str(client.base_url).rstrip("/")
    headers = {name: value.format(api=api) for name, value in headers.items()}
    body = {"function": "count", "input": {"to": 1}}
    answer = await client.post("/tasks", json=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:tailrace:problem:foreign-origin")
    task_id = await start(client, "count", to=1)
    assert (await client.delete(f"/tasks/{task_id}", headers=headers)).status_code == 403
    assert (await client.get(f"/tasks/{task_id}", headers=headers)).status_code == 200

    for ours in ({"Origin": api, "Sec-Fetch-Site": "same-origin"}, {"Origin": api}):
        assert (await client.post("/tasks", json=body, headers=ours)).status_code == 202


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_a_page_of_ours_behind_a_proxy_that_changes_the_host(
    client: httpx.AsyncClient, redis: Redis, site: str
) -> None:
    """Sec-Fetch-Site decides alone, because no page can forge it: many a proxy asks the API under another host."""
    headers = {"Origin": "http://app.example", "Sec-Fetch-Site": site}
    task_id = await start(client, "count", headers, to=1)
    assert (await client.delete(f"/tasks/{task_id}", headers=headers)).is_success


async def test_a_page_whose_host_a_proxy_has_changed(client: httpx.AsyncClient) -> None:
    """Where the browser sends Origin only, the refusal says what the proxy must pass on."""
    answer = await client.delete("/tasks/x", headers={"Origin": "http://app.example:8080", "Host": "127.0.0.1:8000"})
    assert answer.status_code == 403
    assert "http://app.example:8080" in answer.json()["detail"]
    assert "127.0.0.1:8000" in answer.json()["detail"]
    assert "proxy_set_header Host $http_host" in answer.json()["detail"]
