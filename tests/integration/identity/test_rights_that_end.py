"""A stream ends when the right of its caller does: its key is revoked or over, or its ticket is."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from services.api.identity.caller import Caller
from services.api.identity.tickets import Tickets
from tests.support.client import client_of, start
from tests.support.identity_provider import Signer, provider_of
from tests.support.key_files import TICKET_KEY, KeyFile, bearer
from tests.support.processes import Api, Process, api_process
from tests.support.settings import NO_HEARTBEAT
from tests.support.sockets import Client, accepted
from tests.support.tasks import ended
from tests.support.waiting import DEADLINE_S, until

pytestmark = pytest.mark.anyio

# A task that says nothing after its first entry, and one that always says something.
SILENT: Final[dict[str, Any]] = {"to": 2, "every": 3_600}
BUSY: Final[dict[str, Any]] = {"to": 10_000, "every": 0.002}

# A log of 64 MiB, more than what kernels keep for a client that reads nothing.
BULKY: Final[dict[str, Any]] = {"chunks": 16_384, "size": 4_096}

OPEN: Final = b": open\n"

# Seconds that a busy machine may add to a heartbeat of half a second.
SLACK_S: Final = 5


async def new_key(callers: httpx.AsyncClient, key_file: KeyFile, owner: str | None = None, **fields: Any) -> str:
    """A key that the API knows, of an owner that nothing else has."""
    key = key_file.add(owner or f"owner {uuid4().hex}", **fields)

    async def known() -> bool:
        return (await callers.get("/tasks", headers=bearer(key))).status_code == 200

    await until(known, "the key is known")
    return key


def header(key: str) -> str:
    """The line of a request's head that has this key."""
    return f"Authorization: Bearer {key}"


async def with_chunk(api: Api, task_id: str, *headers: str, target: str | None = None) -> Client:
    """A client of the task's stream that has received an entry."""
    client = Client(api.url, task_id, *headers, target=target)
    await client.until(b"\nid: 0\n")
    return client


async def to_the_end(client: Client) -> None:
    """Read until the connection ends, and close it."""
    async with asyncio.timeout(DEADLINE_S):
        await client.until_end()
    client.close()


async def told_to_come_back(client: Client) -> None:
    """Wait until the stream has ended as one that goes on elsewhere: with a time to wait, without its last chunk."""
    await to_the_end(client)
    assert re.search(rb"\nretry: \d+\n\Z", client.body), client.body[-200:]
    assert not client.complete


async def refused(api: Api, task_id: str, *headers: str, target: str | None = None) -> None:
    """Wait for the answer to a request for the stream: 401."""
    client = Client(api.url, task_id, *headers, "Connection: close", target=target)
    await to_the_end(client)
    assert client.received.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("given", [SILENT, BUSY], ids=["silent", "busy"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_key_that_is_revoked(
    guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile, given: dict[str, Any], accept: str
) -> None:
    """Its streams end, while entries come without a pause, too, and it is refused. Streams of the owner's other key,
    and of other owners, go on.
    """
    owner = f"owner {uuid4().hex}"
    key, kept = [await new_key(callers, key_file, owner) for _ in range(2)]
    other = await new_key(callers, key_file)
    task_id = await start(callers, "count", bearer(key), **given)
    others_task = await start(callers, "count", bearer(other), **given)
    ending = [Client(guarded.url, task_id, header(key), f"Accept: {accept}") for _ in range(5)]
    staying = [await with_chunk(guarded, task_id, header(kept)), await with_chunk(guarded, others_task, header(other))]
    for client in ending:
        await client.until(b"1\n" if accept == "text/event-stream" else b'"data":1}')
    key_file.revoke(key)
    for client in ending:
        if accept == "text/event-stream":
            await told_to_come_back(client)
        else:
            await to_the_end(client)
            assert not client.complete
    await refused(guarded, task_id, header(key))
    for client in staying:
        had = len(client.received)
        while len(client.received) < had + 500 if given is BUSY else client.received[had:].count(b":\n") < 3:
            assert await client.read()
        client.close()
    for each, by in ((task_id, kept), (others_task, other)):
        await callers.delete(f"/tasks/{each}", headers=bearer(by))
    assert "Traceback" not in guarded.process.output


async def test_a_key_that_the_provider_removes(redis_url: str, worker: Process) -> None:
    """All streams by its tokens end, within a heartbeat of the API's knowing. A stream of the same caller by a token of
    another key goes on.
    """
    removed, kept, new = [Signer(kid, "ES256", number) for number, kid in enumerate(("removed", "kept", "new"))]
    with (
        provider_of(removed, kept) as provider,
        api_process(redis_url, TAILRACE_HEARTBEAT_S="0.5", **provider.settings()) as api,
    ):
        async with client_of(api) as client:
            task_id = await start(client, "count", bearer(kept.token()), **SILENT)
            ending = [await with_chunk(api, task_id, header(removed.token())) for _ in range(2)]
            staying = await with_chunk(api, task_id, header(kept.token()))
            provider.publish(kept.jwk(), new.jwk())
            # A token of the new key has the API ask the provider.
            await until(lambda: taken(client, new.token()), "the API has the new keys")
            before = time.monotonic()
            for each in ending:
                await told_to_come_back(each)
            assert time.monotonic() - before < 0.5 + SLACK_S
            await refused(api, task_id, header(removed.token()))
            had = len(staying.received)
            while staying.received[had:].count(b":\n") < 3:
                assert await staying.read()
            staying.close()
            await client.delete(f"/tasks/{task_id}", headers=bearer(kept.token()))


async def taken(client: httpx.AsyncClient, token: str) -> bool:
    """Whether the API takes this token."""
    return (await client.get("/tasks", headers=bearer(token))).status_code == 200


async def test_the_stream_of_a_post(guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """A stream that a POST began ends as that of a GET."""
    key = await new_key(callers, key_file)
    headers = bearer(key) | {"Accept": "text/event-stream"}
    given = {"function": "count", "input": SILENT}
    lines: list[str] = []
    with suppress(httpx.RemoteProtocolError):  # it breaks off
        async with callers.stream("POST", "/tasks", json=given, headers=headers) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                if line == "data: 1":
                    key_file.revoke(key)
    assert re.fullmatch(r"retry: \d+", lines[-1])


async def test_a_late_reader(guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile, redis: Redis) -> None:
    """A reader that has a large log still to read gets no more of it."""
    key = await new_key(callers, key_file)
    task_id = await start(callers, "bulky", bearer(key), **BULKY)
    await ended(redis, task_id)
    late = Client(guarded.url, task_id, header(key), buffer=65_536)
    await late.until(b"\nid: 0\n")
    key_file.revoke(key)

    async def is_refused() -> bool:
        return (await callers.get("/tasks", headers=bearer(key))).status_code == 401

    # It reads on, slowly, so that the API has always a page for it.
    while not await is_refused():
        assert await late.read()
    await to_the_end(late)
    assert not late.complete
    assert len(late.ids) < BULKY["chunks"]


async def test_a_client_that_reads_nothing(
    guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile, redis: Redis
) -> None:
    """Its connection is aborted: no right is kept by not reading."""
    key = await new_key(callers, key_file)
    task_id = await start(callers, "bulky", bearer(key), **BULKY)
    await ended(redis, task_id)
    before = accepted(guarded.process.pid, guarded.url)
    stuck = [Client(guarded.url, task_id, header(key), buffer=4_096) for _ in range(5)]
    for client in stuck:
        await client.until(OPEN)
    assert accepted(guarded.process.pid, guarded.url) == before + 5
    key_file.revoke(key)
    # Sooner than a send may take.
    await until(lambda: accepted(guarded.process.pid, guarded.url) <= before, "they have lost it", deadline_s=15)
    for client in stuck:
        client.close()


async def test_scopes_that_change(guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """A key with other scopes must prove itself again; a key of which something else has changed need not."""
    narrowed, prolonged = await new_key(callers, key_file), await new_key(callers, key_file, expires_s=600)
    tasks = [await start(callers, "count", bearer(key), **SILENT) for key in (narrowed, prolonged)]
    first = await with_chunk(guarded, tasks[0], header(narrowed))
    second = await with_chunk(guarded, tasks[1], header(prolonged))
    key_file.change(prolonged, expires=None)
    key_file.change(narrowed, scopes=("functions:*",))
    await told_to_come_back(first)
    had = len(second.received)
    while second.received[had:].count(b":\n") < 3:
        assert await second.read()
    second.close()
    answer = await callers.get(f"/tasks/{tasks[0]}/stream", headers=bearer(narrowed))
    assert (answer.status_code, answer.json()["scope"]) == (403, "tasks")


def by_key(key: str, task_id: str) -> tuple[list[str], str]:
    """The headers, and the target, of a request with a key for a stream."""
    return [header(key)], f"/tasks/{task_id}/stream"


def by_ticket(_: str, task_id: str) -> tuple[list[str], str]:
    """The same with a ticket that is soon over."""
    ticket = Tickets([TICKET_KEY], 5, 5).make(task_id, Caller(owner="", scopes=frozenset()))
    return [], f"/tasks/{task_id}/stream?ticket={ticket.text}"


@pytest.mark.parametrize("by", [by_key, by_ticket])
@pytest.mark.parametrize("given", [SILENT, BUSY], ids=["silent", "busy"])
async def test_a_right_that_is_over(
    guarded: Api,
    callers: httpx.AsyncClient,
    key_file: KeyFile,
    by: Callable[[str, str], tuple[list[str], str]],
    given: dict[str, Any],
) -> None:
    """An `EventSource` whose key, or whose ticket, is over, is told to come back, and is then refused for good."""
    owner = f"owner {uuid4().hex}"
    lasting = await new_key(callers, key_file, owner)
    task_id = await start(callers, "count", bearer(lasting), **given)
    key = await new_key(callers, key_file, owner, expires_s=6)
    headers, target = by(key, task_id)
    client = await with_chunk(guarded, task_id, *headers, target=target)
    await told_to_come_back(client)
    await refused(guarded, task_id, f"Last-Event-ID: {client.ids[-1]}", *headers, target=target)
    await callers.delete(f"/tasks/{task_id}", headers=bearer(lasting))


async def test_a_long_poll(guarded: Api, callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """A long-poll is answered 401 when its right has ended, long before its time is over, and has no entry."""
    owner = f"owner {uuid4().hex}"
    key, kept = [await new_key(callers, key_file, owner) for _ in range(2)]
    task_id = await start(callers, "count", bearer(kept), **SILENT)
    (await with_chunk(guarded, task_id, header(kept))).close()
    pages = f"/tasks/{task_id}/chunks?after=0&wait=45"
    _, target = by_ticket("", task_id)
    waiting = [
        Client(guarded.url, task_id, header(key), "Connection: close", target=pages),
        Client(guarded.url, task_id, "Connection: close", target=f"{pages}&{target.partition('?')[2]}"),
    ]
    going_on = asyncio.create_task(callers.get(pages, headers=bearer(kept)))
    key_file.revoke(key)
    for client in waiting:
        await to_the_end(client)
        assert client.received.startswith(b"HTTP/1.1 401 ")
        assert b"while the request waited" in client.received
    assert not going_on.done()
    await callers.delete(f"/tasks/{task_id}", headers=bearer(kept))
    assert [entry["event"] for entry in (await going_on).json()["entries"]] == ["cancelled"]


async def test_an_entry_that_comes_after_the_end(redis_url: str, callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """A long-poll whose right is over has no entry, even one that comes before the API looks at its open streams."""
    key = await new_key(callers, key_file)
    task_id = await start(callers, "count", bearer(key), **SILENT)
    settings = {"TAILRACE_KEYS_FILE": str(key_file.path), "TAILRACE_TICKET_KEYS": TICKET_KEY}
    with api_process(redis_url, TAILRACE_AUTH="keys", **settings, **NO_HEARTBEAT) as api:
        (await with_chunk(api, task_id, header(key))).close()
        ticket = Tickets([TICKET_KEY], 3, 3).make(task_id, Caller(owner="", scopes=frozenset()))
        pages = f"/tasks/{task_id}/chunks?after=0&wait=45&ticket={ticket.text}"
        waiting = Client(api.url, task_id, "Connection: close", target=pages)
        await until(lambda: time.time() * 1_000 > ticket.stream_until, "the ticket is over")
        await callers.delete(f"/tasks/{task_id}", headers=bearer(key))
        await to_the_end(waiting)
        assert b"while the request waited" in waiting.received
        assert b"cancelled" not in waiting.received
