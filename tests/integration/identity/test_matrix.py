"""Every route and method, for every kind of caller: one table says what each needs, and the statuses follow from it.

A new route needs its row here, and a new kind of credential its column.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, NamedTuple

import httpx
import pytest
from litestar.routes import HTTPRoute

from services.api.app import create_app
from services.api.identity.api_keys import new_key
from services.api.identity.authentication import ANY, NEEDS, OPEN
from services.api.identity.caller import ADMIN, TASKS, Caller
from services.api.identity.tickets import Tickets
from services.api.settings import Settings
from tests.support.callers import known, unknown
from tests.support.canaries import CANARY
from tests.support.client import start
from tests.support.identity_provider import TRUSTED, claims, signed
from tests.support.key_files import ALL, TICKET_KEY, KeyFile, bearer
from tests.support.processes import Api, Process, api_process
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.anyio


class Row(NamedTuple):
    """A call: what it needs, and the status for a caller that has it. `foreign` is that for another than the owner of
    the task, and `unscoped` that for a caller without scopes, where they differ. `by_ticket` is that for the holder of
    a ticket of the task.
    """

    needs: str
    status: int
    foreign: int | None = None
    unscoped: int | None = None
    body: Any = None
    by_ticket: int = 401


# `{task_id}` is a task that has ended, `{name}` a function, `{path}` nothing.
ROWS: Final = {
    ("POST", "/tasks"): Row(TASKS, 202, body={"function": "words", "input": {"text": CANARY}}),
    ("GET", "/tasks"): Row(TASKS, 200),
    ("GET", "/tasks/{task_id}"): Row(TASKS, 200, foreign=404),
    ("DELETE", "/tasks/{task_id}"): Row(TASKS, 200, foreign=404),
    ("GET", "/tasks/{task_id}/stream"): Row(TASKS, 200, foreign=404, by_ticket=200),
    ("GET", "/tasks/{task_id}/chunks"): Row(TASKS, 200, foreign=404, by_ticket=200),
    ("POST", "/tasks/{task_id}/tickets"): Row(TASKS, 201, foreign=404),
    ("GET", "/functions"): Row(ANY, 200),
    ("GET", "/functions/{name}"): Row(ANY, 200, unscoped=404),
    ("POST", "/functions/{name}/tasks"): Row(TASKS, 202, body={"text": CANARY}),
    ("PUT", "/functions/{name}/paused"): Row(ADMIN, 200),
    ("DELETE", "/functions/{name}/paused"): Row(ADMIN, 200),
    ("GET", "/health/live"): Row(OPEN, 200, by_ticket=400),  # it has no such parameter
    ("GET", "/health/ready"): Row(OPEN, 200, by_ticket=400),
    ("GET", "/schema"): Row(ANY, 200),
    ("GET", "/schema/openapi.json"): Row(ANY, 200),
    ("GET", "/schema/{path}"): Row(ANY, 404),
}


class Credentials(NamedTuple):
    """Keys of each kind, and tickets: of the task, of another one, and of the task's that is over."""

    expired: str
    revoked: str
    unscoped: str
    owner: str
    other: str
    operator: str
    admin: str
    ticket: str = ""
    ticket_of_another: str = ""
    ticket_that_is_over: str = ""


Sent = dict[str, str]


class Column(NamedTuple):
    """A kind of caller: the headers that it sends, the status that it gets for a row, and the ticket that it sends."""

    sends: Callable[[Credentials], Sent]
    gets: Callable[[Row], int]
    ticket: Callable[[Credentials], str | None] = lambda _: None


def of_a_stranger(row: Row) -> int:
    """The API does not know the caller."""
    return row.status if row.needs == OPEN else 401


def of_unscoped(row: Row) -> int:
    """It knows the caller, which has no scope."""
    return (row.unscoped or row.status) if row.needs in (OPEN, ANY) else 403


def of_an_owner(row: Row) -> int:
    """It has the usual scopes, and the task is its own."""
    return 403 if row.needs == ADMIN else row.status


def of_another_owner(row: Row) -> int:
    """The same, but the task is not its own."""
    return row.foreign or of_an_owner(row)


def of_an_operator(row: Row) -> int:
    """It is an admin, and has no scope beside that."""
    return 403 if row.needs == TASKS else row.status


def of_a_ticket(row: Row) -> int:
    """The caller has a ticket of the task."""
    return row.by_ticket


def of_a_bad_ticket(row: Row) -> int:
    """It has a ticket that does not count."""
    return 401 if row.by_ticket == 200 else row.by_ticket


def nothing(_: Credentials) -> Sent:
    """No header."""
    return {}


COLUMNS: Final = {
    "no credential": Column(nothing, of_a_stranger),
    "malformed": Column(lambda _: {"Authorization": "Bearer trk_a_b"}, of_a_stranger),
    "another scheme": Column(lambda _: {"Authorization": "Basic YTpi"}, of_a_stranger),
    "unknown": Column(lambda _: bearer(new_key()[0]), of_a_stranger),
    "two": Column(lambda keys: bearer(keys.owner) | {"X-API-Key": keys.owner}, of_a_stranger),
    "expired": Column(lambda keys: bearer(keys.expired), of_a_stranger),
    "revoked": Column(lambda keys: bearer(keys.revoked), of_a_stranger),
    "no scopes": Column(lambda keys: bearer(keys.unscoped), of_unscoped),
    "owner": Column(lambda keys: bearer(keys.owner), of_an_owner),
    "owner, X-API-Key": Column(lambda keys: {"X-API-Key": keys.owner}, of_an_owner),
    "other owner": Column(lambda keys: bearer(keys.other), of_another_owner),
    "admin alone": Column(lambda keys: bearer(keys.operator), of_an_operator),
    "admin": Column(lambda keys: bearer(keys.admin), lambda row: row.status),
    "token": Column(lambda _: bearer(token()), of_another_owner),
    "token that has expired": Column(lambda _: bearer(token(exp=1)), of_a_stranger),
    "token, admin": Column(lambda _: bearer(token(scope=" ".join(ALL))), lambda row: row.status),
    "named by a proxy": Column(lambda _: {IDENTITY: "ada"}, of_another_owner),
    "named, with a key": Column(lambda keys: {IDENTITY: "ada"} | bearer(keys.owner), of_a_stranger),
    "ticket": Column(nothing, of_a_ticket, lambda keys: keys.ticket),
    "ticket of another task": Column(nothing, of_a_bad_ticket, lambda keys: keys.ticket_of_another),
    "ticket that has expired": Column(nothing, of_a_bad_ticket, lambda keys: keys.ticket_that_is_over),
    "ticket, and a key": Column(lambda keys: bearer(keys.owner), of_a_bad_ticket, lambda keys: keys.ticket),
}

# An API that knows callers in every way. All tests ask from the address of its proxy.
IDENTITY: Final = "X-Forwarded-User"
JWT_SECRET: Final = f"{CANARY}-that-signs-tokens-of-the-tests"
SETTINGS: Final = TRUSTED | {
    "TAILRACE_AUTH": "keys,jwt,proxy",
    "TAILRACE_JWT_SECRET": JWT_SECRET,
    "TAILRACE_TRUSTED_PROXIES": "127.0.0.1",
    "TAILRACE_IDENTITY_HEADER": IDENTITY,
    "TAILRACE_TICKET_KEYS": TICKET_KEY,
}


def token(**changed: Any) -> str:
    """A token with the usual claims, but for these."""
    return signed(b'{"alg":"HS256"}', json.dumps(claims(**changed)).encode(), "HS256", JWT_SECRET.encode())


def ticket(task_id: str, open_s: float = 60) -> str:
    """A ticket of this task."""
    return Tickets([TICKET_KEY], open_s, 60).make(task_id, Caller(owner="", scopes=frozenset())).text


class Table(NamedTuple):
    """A client, its keys, and what the placeholders of paths stand for."""

    client: httpx.AsyncClient
    keys: Credentials
    names: dict[str, str]

    async def statuses(self, method: str, path: str, body: Any) -> dict[str, int]:
        """The status that each kind of caller gets."""
        url = path.format_map(self.names)
        return {
            name: (
                await self.client.request(
                    method,
                    url,
                    json=body,
                    headers=column.sends(self.keys),
                    params=None if (given := column.ticket(self.keys)) is None else {"ticket": given},
                )
            ).status_code
            for name, column in COLUMNS.items()
        }


@pytest.fixture(scope="module")
def credentials(key_file: KeyFile) -> Credentials:
    """The keys, before any is revoked."""
    keys = Credentials(
        expired=key_file.add("mat", expires_s=-1),
        revoked=key_file.add("mat"),
        unscoped=key_file.add("unscoped"),
        owner=key_file.add("mat"),
        other=key_file.add("other"),
        operator=key_file.add("operator", "admin"),
        admin=key_file.add("admin", *ALL),
    )
    key_file.change(keys.unscoped, scopes=())
    return keys


@pytest.fixture(scope="module")
def api(redis_url: str, worker: Process, key_file: KeyFile) -> Iterator[Api]:
    """An API that knows callers in every way."""
    with api_process(redis_url, TAILRACE_KEYS_FILE=str(key_file.path), **SETTINGS) as one:
        yield one


@pytest.fixture
async def table(api: Api, credentials: Credentials, key_file: KeyFile) -> AsyncIterator[Table]:
    """An API that knows the keys, and a task of theirs that has ended. No function stays paused."""
    async with httpx.AsyncClient(base_url=api.url, timeout=DEADLINE_S) as client:
        if credentials.revoked.split("_")[1] in key_file.records:
            await known(client, credentials.revoked)
            key_file.revoke(credentials.revoked)
        await unknown(client, credentials.revoked)
        await known(client, credentials.admin)
        owner = bearer(credentials.owner)
        task_id = await start(client, "words", headers=owner, text=CANARY)
        await client.get(f"/tasks/{task_id}/stream", headers=owner)  # to its end
        keys = credentials._replace(
            ticket=ticket(task_id),
            ticket_of_another=ticket("0" * 32),
            ticket_that_is_over=ticket(task_id, open_s=-1),
        )
        yield Table(client, keys, {"task_id": task_id, "name": "words", "path": "none"})
        await client.delete("/functions/words/paused", headers=bearer(credentials.admin))


def routes() -> list[HTTPRoute]:
    """The routes of the application."""
    routes = create_app(Settings()).routes
    assert all(isinstance(route, HTTPRoute) for route in routes), "a route of another kind needs a table of its own"
    return [route for route in routes if isinstance(route, HTTPRoute)]


def test_every_route_is_in_the_table() -> None:
    """A call that the table lacks might be open to all. The table needs what the handlers need."""
    needed = {
        (method, route.path_format): handler.opt.get(NEEDS)
        for route in routes()
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS"
    }
    assert needed == {call: row.needs for call, row in ROWS.items()}


@pytest.mark.parametrize(
    ("method", "path", "row"),
    [
        *((method, path, row) for (method, path), row in ROWS.items()),
        *(("HEAD", path, row) for (method, path), row in ROWS.items() if method == "GET"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_matrix(table: Table, method: str, path: str, row: Row) -> None:
    """Every kind of caller gets the status that follows from what the call needs; HEAD is answered as GET."""
    statuses = await table.statuses(method, path, row.body)
    assert statuses == {name: column.gets(row) for name, column in COLUMNS.items()}


@pytest.mark.parametrize("path", sorted({path for _, path in ROWS}))
async def test_options(table: Table, path: str) -> None:
    """All callers may ask which methods a path has: a browser asks without a credential."""
    assert await table.statuses("OPTIONS", path, None) == dict.fromkeys(COLUMNS, 204)


@pytest.mark.parametrize("path", sorted({path for _, path in ROWS}))
async def test_other_methods(table: Table, path: str) -> None:
    """No path takes a method that the table does not have, from any caller."""
    for method in {"POST", "PUT", "PATCH", "DELETE", "TRACE"} - {method for method, each in ROWS if each == path}:
        assert await table.statuses(method, path, None) == dict.fromkeys(COLUMNS, 405)
