"""Tickets: a client that sends no header reads one task by one, for a while, and nothing else."""

import json
import signal
import time
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from httpx_sse import EventSource

from services.api.http.headers import COMMON
from services.api.identity.caller import Caller
from services.api.identity.tickets import Tickets
from tests.support.canaries import CANARY
from tests.support.client import client_of, data, start, whole
from tests.support.key_files import TICKET_KEY, KeyFile, bearer
from tests.support.processes import Api, Process, api_process
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

OTHER_KEY: Final = f"{CANARY}-that-signs-tickets-of-another-deployment"


async def owner_with_task(client: httpx.AsyncClient, key_file: KeyFile, **given: Any) -> tuple[dict[str, str], str]:
    """An owner that nothing else has, as the header of its key; and a task of it, which counts."""
    header = bearer(key_file.add(f"owner {uuid4().hex}"))

    async def known() -> bool:
        return (await client.get("/tasks", headers=header)).status_code == 200

    await until(known, "the key is known")
    return header, await start(client, "count", header, **{"to": 3} | given)


async def ticket_for(client: httpx.AsyncClient, header: dict[str, str], task_id: str) -> dict[str, Any]:
    """The answer to a request for a ticket."""
    answer = await client.post(f"/tasks/{task_id}/tickets", headers=header)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def numbers(client: httpx.AsyncClient, url: str) -> list[Any]:
    """The chunks of the stream at this address, to its end."""
    async with client.stream("GET", url, timeout=DEADLINE_S) as answer:
        assert answer.status_code == 200, await answer.aread()
        return data([event async for event in whole(EventSource(answer))])


def made_by(secret: str, task_id: str, open_s: float = 300, stream_s: float = 3_600) -> str:
    """A ticket that an API with this secret has made."""
    return Tickets([secret], open_s, stream_s).make(task_id, Caller(owner="", scopes=frozenset())).text


async def test_a_ticket_opens_its_stream(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """The address that the answer has needs no header, again and again and from any cursor; the pages need none
    either, nor HEAD.
    """
    header, task_id = await owner_with_task(callers, key_file)
    made = await ticket_for(callers, header, task_id)
    assert made["stream_url"] == f"/tasks/{task_id}/stream?ticket={made['ticket']}"
    assert await numbers(callers, made["stream_url"]) == [1, 2, 3]
    assert await numbers(callers, f"{made['stream_url']}&last_event_id=0") == [2, 3]
    assert (await callers.head(made["stream_url"])).status_code == 200
    page = await callers.get(f"/tasks/{task_id}/chunks?ticket={made['ticket']}")
    assert [entry["seq"] for entry in page.json()["entries"]] == [0, 1, 2, 3]


async def test_its_times(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """It opens a stream for five minutes, which may stay for an hour; neither is longer than its maker's key is
    valid. Times are milliseconds since the epoch.
    """
    header, task_id = await owner_with_task(callers, key_file)
    now = time.time() * 1_000
    made = await ticket_for(callers, header, task_id)
    assert made["open_until"] - now == pytest.approx(300_000, abs=DEADLINE_S * 1_000)
    assert made["stream_until"] - made["open_until"] == pytest.approx(3_300_000, abs=1)
    brief = key_file.add("brief", "tasks", "admin", expires_s=100)
    expires = key_file.records[brief.split("_")[1]].expires
    assert expires is not None

    async def known() -> bool:
        return (await callers.get("/tasks", headers=bearer(brief))).status_code == 200

    await until(known, "the key is known")
    made = await ticket_for(callers, bearer(brief), task_id)  # of an admin, for a task of another owner
    assert made["open_until"] == made["stream_until"] == int(expires.timestamp() * 1_000)


async def test_a_ticket_that_is_none(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """401 with a challenge, and a sentence that says what is wrong and repeats no part of the ticket."""
    header, task_id = await owner_with_task(callers, key_file)
    _, other = await owner_with_task(callers, key_file)
    good = made_by(TICKET_KEY, task_id)
    version, key, open_until, stream_until, mac = good.split(".")
    later = str(int(open_until) + 1_000)
    refused = {
        "another task's": (f"ticket={made_by(TICKET_KEY, other)}", "not for this task"),
        "another secret's": (f"ticket={made_by(OTHER_KEY, task_id)}", "not for this task"),
        "expired": (f"ticket={made_by(TICKET_KEY, task_id, open_s=-1)}", "has expired"),
        "a later time": (f"ticket={'.'.join([version, key, later, stream_until, mac])}", "not for this task"),
        "a longer stream": (f"ticket={'.'.join([version, key, open_until, later, mac])}", "not for this task"),
        "another version": (f"ticket=v2{good[2:]}", "malformed"),
        "a part": (f"ticket={good[:-1]}", "malformed"),
        "more": (f"ticket={good}A", "malformed"),
        "a padding": (f"ticket={good}=", "malformed"),
        "a new line": (f"ticket={good}%0A", "malformed"),
        "other digits": (f"ticket={good.replace(open_until, '%D9%A1' * 13)}", "malformed"),
        "no mac": (f"ticket={version}.{key}.{open_until}.{stream_until}.", "malformed"),
        "no time": (f"ticket={version}.{key}..{stream_until}.{mac}", "malformed"),
        "huge": (f"ticket=v1.{'9' * 20_000}", "malformed"),
        "empty": ("ticket=", "malformed"),
        "twice": (f"ticket={good}&ticket={good}", "several tickets"),
        "in two spellings": (f"ticket={good}&Tick-et={good}", "several tickets"),
    }
    for what, (query, said) in refused.items():
        for call in ("stream", "chunks"):
            answer = await callers.get(f"/tasks/{task_id}/{call}?{query}")
            assert (answer.status_code, said in answer.text) == (401, True), (what, answer.text)
            assert answer.headers["www-authenticate"] == 'Bearer realm="tailrace", error="invalid_token"'
            assert answer.json()["type"] == "urn:tailrace:problem:invalid-credential"
            assert not any(part in answer.text for part in (open_until, stream_until, mac[:12], "99999"))
    answer = await callers.get(f"/tasks/{task_id}/stream?ticket={good}", headers=header)
    assert (answer.status_code, "several credentials" in answer.text) == (401, True)
    answer = await callers.get(f"/tasks/{task_id}/stream?ticket={good}", headers={"X-API-Key": ""})
    assert (answer.status_code, "several credentials" in answer.text) == (401, True)
    assert (await callers.head(f"/tasks/{other}/stream?ticket={good}")).status_code == 401
    assert await numbers(callers, f"/tasks/{task_id}/stream?ticket={good}") == [1, 2, 3]


async def test_a_ticket_opens_nothing_else(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """No other call takes one: its holder learns nothing but the log, changes nothing, and makes no other ticket."""
    header, task_id = await owner_with_task(callers, key_file)
    query = f"?ticket={(await ticket_for(callers, header, task_id))['ticket']}"
    for method, path in (
        ("GET", f"/tasks/{task_id}"),
        ("DELETE", f"/tasks/{task_id}"),
        ("POST", f"/tasks/{task_id}/tickets"),
        ("GET", "/tasks"),
        ("POST", "/tasks"),
        ("POST", "/functions/count/tasks"),
        ("GET", "/functions"),
        ("GET", "/functions/count"),
        ("PUT", "/functions/count/paused"),
        ("DELETE", "/functions/count/paused"),
        ("GET", "/schema"),
    ):
        answer = await callers.request(method, path + query)
        assert (answer.status_code, "and nothing else" in answer.text) == (401, True), (method, path, answer.text)
    assert (await callers.get(f"/health/live{query}")).json()["type"] == "urn:tailrace:problem:unknown-parameter"
    # A purged task has no stream, whatever ticket there is.
    await callers.delete(f"/tasks/{task_id}?purge=true", headers=header)
    assert (await callers.get(f"/tasks/{task_id}/stream{query}")).status_code == 404


async def test_only_for_a_task_of_ones_own(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """A caller gets none for another owner's task, which is as one that there is not, nor without the scope tasks."""
    _, task_id = await owner_with_task(callers, key_file)
    other, _ = await owner_with_task(callers, key_file)
    foreign = await callers.post(f"/tasks/{task_id}/tickets", headers=other)
    none = await callers.post(f"/tasks/{uuid4().hex}/tickets", headers=other)
    assert (foreign.status_code, foreign.content) == (404, none.content)
    starter = bearer(key_file.add("starter", "functions:*"))

    async def refused() -> str:
        return str((await callers.post(f"/tasks/{task_id}/tickets", headers=starter)).json().get("scope", ""))

    assert await until(refused, "the key is known") == "tasks"


async def test_the_secrets_rotate(redis_url: str, key_file: KeyFile, callers: httpx.AsyncClient) -> None:
    """An API with a new secret before the old one takes the tickets of both; without it, only the new one's."""
    header, task_id = await owner_with_task(callers, key_file)
    old = await ticket_for(callers, header, task_id)
    settings = {"TAILRACE_AUTH": "keys", "TAILRACE_KEYS_FILE": str(key_file.path)}
    for secrets, status in ((f"{OTHER_KEY}, {TICKET_KEY}", 200), (OTHER_KEY, 401)):
        with api_process(redis_url, TAILRACE_TICKET_KEYS=secrets, **settings) as api:
            async with client_of(api) as client:
                assert (await client.head(old["stream_url"])).status_code == status
                new = await ticket_for(client, header, task_id)
                assert (await client.head(new["stream_url"])).status_code == 200
                assert (await callers.head(new["stream_url"])).status_code == 401


async def test_without_secrets_there_are_no_tickets(
    redis_url: str, key_file: KeyFile, callers: httpx.AsyncClient
) -> None:
    """POST names the setting; a ticket is refused, and so is one that nothing has signed."""
    header, task_id = await owner_with_task(callers, key_file)
    with api_process(redis_url, TAILRACE_AUTH="keys", TAILRACE_KEYS_FILE=str(key_file.path)) as api:
        async with client_of(api) as client:
            answer = await client.post(f"/tasks/{task_id}/tickets", headers=header)
            assert (answer.status_code, answer.json()["type"]) == (501, "urn:tailrace:problem:no-tickets")
            assert answer.json()["setting"] == "TAILRACE_TICKET_KEYS"
            for ticket in (made_by(TICKET_KEY, task_id), made_by("", task_id)):
                answer = await client.get(f"/tasks/{task_id}/stream?ticket={ticket}")
                assert (answer.status_code, "takes no tickets" in answer.text) == (401, True)


async def test_without_authentication(apis: list[Api]) -> None:
    """A client that uses tickets works without settings: every process takes any, as none is needed."""
    async with client_of(apis[0]) as one, client_of(apis[1]) as other:
        task_id = await start(one, "count", to=2)
        made = await ticket_for(one, {}, task_id)
        for client in (one, other):
            assert await numbers(client, made["stream_url"]) == [1, 2]
        assert (await one.get(f"/tasks/{task_id}/chunks?ticket=any")).status_code == 200


async def test_below_a_prefix(redis_url: str, worker: Process) -> None:
    """The stream's address has the prefix under which a proxy publishes the API."""
    with api_process(redis_url, "--root-path", "/tail") as api:
        async with client_of(api) as client:
            made = await ticket_for(client, {}, await start(client, "count", to=1))
            assert made["stream_url"].startswith("/tail/tasks/")
            assert await numbers(client, made["stream_url"]) == [1]


async def test_a_tickets_stream_is_one_of_the_owners(
    redis_url: str, key_file: KeyFile, callers: httpx.AsyncClient
) -> None:
    """It takes a place of the task's owner, so tickets do not multiply an owner's quota; another owner has its own."""
    header, task_id = await owner_with_task(callers, key_file, to=2, every=3_600)
    other, others_task = await owner_with_task(callers, key_file)
    settings = {"TAILRACE_KEYS_FILE": str(key_file.path), "TAILRACE_TICKET_KEYS": TICKET_KEY}
    with api_process(redis_url, TAILRACE_AUTH="keys", TAILRACE_OWNER_STREAMS="1", **settings) as api:
        async with client_of(api) as client:
            url = (await ticket_for(client, header, task_id))["stream_url"]
            async with client.stream("GET", url) as answer:
                assert answer.status_code == 200
                for refused, headers in ((url, {}), (f"/tasks/{task_id}/stream", header)):
                    again = await client.get(refused, headers=headers)
                    assert (again.status_code, again.json()["setting"]) == (429, "TAILRACE_OWNER_STREAMS")
                waiting = url.replace("/stream?", "/chunks?wait=1&after=tail&")
                assert (await client.get(waiting)).status_code == 429
                async with client.stream("GET", f"/tasks/{others_task}/stream", headers=other) as others:
                    assert others.status_code == 200
    await callers.delete(f"/tasks/{task_id}", headers=header)


async def test_a_tickets_requests_have_a_rate_of_their_own(
    redis_url: str, key_file: KeyFile, callers: httpx.AsyncClient
) -> None:
    """A holder that asks without a pause is refused; the owner, and tickets of its other tasks, are not."""
    header, task_id = await owner_with_task(callers, key_file)
    other_task = await start(callers, "count", header, to=1)
    settings = {"TAILRACE_KEYS_FILE": str(key_file.path), "TAILRACE_TICKET_KEYS": TICKET_KEY}
    rate = {"TAILRACE_OWNER_REQUESTS": "1", "TAILRACE_OWNER_BURST": "10"}
    with api_process(redis_url, TAILRACE_AUTH="keys", **settings, **rate) as api:
        async with client_of(api) as client:
            tickets = [made_by(TICKET_KEY, each) for each in (task_id, other_task)]

            async def pages(task: str, headers: dict[str, str] | None = None, query: str = "") -> int:
                return (await client.get(f"/tasks/{task}/chunks{query}", headers=headers)).status_code

            statuses = [await pages(task_id, None, f"?ticket={tickets[0]}") for _ in range(40)]
            assert set(statuses) == {200, 429}
            # A new ticket for the same task changes nothing.
            again = made_by(TICKET_KEY, task_id, open_s=200)
            assert 429 in [await pages(task_id, None, f"?ticket={again}") for _ in range(10)]
            assert await pages(other_task, None, f"?ticket={tickets[1]}") == 200
            assert await pages(task_id, header) == 200


async def test_no_log_and_no_header_has_a_ticket(redis_url: str, key_file: KeyFile, callers: httpx.AsyncClient) -> None:
    """Neither uvicorn's own log of requests, on by default, nor an error; no header of any answer has it, and a page
    whose address has it does not tell other sites. The same of a key.
    """
    header, task_id = await owner_with_task(callers, key_file)
    settings = {"TAILRACE_KEYS_FILE": str(key_file.path), "TAILRACE_TICKET_KEYS": TICKET_KEY}
    with api_process(redis_url, TAILRACE_AUTH="keys", **settings) as api:
        async with client_of(api) as client:
            made = await ticket_for(client, header, task_id)
            good, bad = made["ticket"], f"{made['ticket']}x"
            answers = [
                await client.request(method, f"{path}?ticket={ticket}{more}", headers={"Referer": f"http://x/?{good}"})
                for method in ("GET", "HEAD", "POST", "OPTIONS")
                for path in (f"/tasks/{task_id}/stream", f"/tasks/{task_id}/chunks", "/nope", f"/{good}")
                for ticket in (good, bad)
                for more in ("", "&x=1", "&after=x")
            ]
            answers.append(await client.get(f"/tasks/{task_id}/chunks?{good}", headers=header))
        api.process.public.add(f"/{good}")  # where it is the path itself
        assert api.process.stop() in (0, -signal.SIGTERM)
        said = api.process.output.replace(f"/{good}", "")
    mac, secret = good.rpartition(".")[2], header["Authorization"].rpartition("_")[2]
    assert said.count("/stream") >= 24
    assert {answer.status_code for answer in answers} == {200, 204, 400, 401, 404, 405}
    for answer in answers:
        assert mac not in str(answer.headers)
        assert answer.headers["referrer-policy"] == COMMON["referrer-policy"] == "no-referrer"
        assert mac not in answer.text or "unknown-parameter" in answer.text
    for private in (mac, secret, TICKET_KEY):
        assert private not in said


async def test_the_schema_has_it(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """The OpenAPI document says which calls take a ticket, and what answers where there are none."""
    header, _ = await owner_with_task(callers, key_file)
    paths = json.loads((await callers.get("/schema", headers=header)).text)["paths"]
    named = {
        path
        for path, calls in paths.items()
        for call in calls.values()
        if any("ticket" in each for each in call.get("security", ()))
    }
    assert named == {"/tasks/{task_id}/stream", "/tasks/{task_id}/chunks"}
    assert {"201", "501"} < paths["/tasks/{task_id}/tickets"]["post"]["responses"].keys()
