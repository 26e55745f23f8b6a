"""Requests that schemathesis makes of the OpenAPI document: each is answered as the document says."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from plugins import keys
from services.api.identity.api_keys import ISSUER
from services.api.identity.caller import owner_of
from services.worker.registry import announce, registry
from tests.support.key_files import KeyFile, bearer
from tests.support.processes import ROOT, Api, api_process
from tests.support.settings import NO_HEARTBEAT
from tests.support.tasks import note_ended
from tests.support.waiting import DEADLINE_S

CHECKS: Final[list[Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]

# The headers that have a credential.
CREDENTIALS: Final = ("Authorization", "X-API-Key")


async def announced(url: str) -> None:
    """Announce the functions of the examples, as a worker does that then stops."""
    async with AsyncRedis.from_url(url) as redis:
        await announce.announce(redis, registry.load([ROOT / "functions"]))
        await redis.expire(keys.FUNCTIONS, keys.TASK_TTL_S)


@pytest.fixture(scope="module")
def api(own_url: str) -> Iterator[Api]:
    """An API on a database of its own, with the functions of the examples and no worker."""
    asyncio.run(announced(own_url))
    with api_process(own_url, **NO_HEARTBEAT) as api:
        yield api


@pytest.fixture(scope="module")
def ended(own_url: str) -> str:
    """A task that has ended; its id."""
    with Redis.from_url(own_url) as redis:
        return note_ended(redis)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    """The keys of the API that asks for them."""
    return KeyFile(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def key(key_file: KeyFile) -> str:
    """A key of the usual scopes, of the owner `ada`."""
    return key_file.add("ada")


@pytest.fixture
def ended_of_ada(own_url: str) -> str:
    """A task of that owner that has ended; its id."""
    with Redis.from_url(own_url) as redis:
        return note_ended(redis, owner_of(ISSUER, "ada"))


@pytest.fixture(scope="module")
def guarded(own_url: str, key_file: KeyFile, key: str) -> Iterator[Api]:
    """An API on the same database that asks for keys."""
    asyncio.run(announced(own_url))
    settings = {"TAILRACE_AUTH": "keys", "TAILRACE_KEYS_FILE": str(key_file.path), "TAILRACE_TICKET_KEYS": "k" * 32}
    with api_process(own_url, **settings, **NO_HEARTBEAT) as api:
        yield api


def operations_of(api: Api, headers: dict[str, str]) -> list[Any]:
    """The operations of the document that a caller with these headers gets."""
    found: list[Any] = list(schemathesis.openapi.from_url(f"{api.url}/schema", headers=headers).get_all_operations())
    assert len(found) > 15
    return [each.ok() for each in found]


def ask(operation: Any, ended: str, headers: dict[str, str], examples: int) -> set[int]:
    """Send requests of an operation with these headers, about this task among others, and check each answer; their
    statuses.
    """
    statuses: set[int] = set()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), known=st.booleans())
    def send(case: Any, known: bool) -> None:
        if known and "task_id" in (case.path_parameters or {}):
            case.path_parameters["task_id"] = ended
        # It makes credentials of the schemes. There are those of the test, and no others.
        for credential in CREDENTIALS:
            case.headers.pop(credential, None)
        case.query.pop("ticket", None)
        answer = case.call(timeout=DEADLINE_S, headers=headers)
        statuses.add(answer.status_code)
        # A stream is a text for OpenAPI, and an object for each event for schemathesis.
        is_stream = answer.headers.get("content-type", [""])[0].startswith("text/event-stream")
        excluded = [response_schema_conformance] if is_stream else []
        case.validate_response(answer, checks=CHECKS, excluded_checks=excluded)

    send()
    return statuses


@pytest.mark.parametrize("examples", [10, pytest.param(500, marks=[pytest.mark.chaos, pytest.mark.timeout(1_800)])])
def test_requests_of_the_document(api: Api, ended: str, examples: int) -> None:
    """Of every operation, those of the functions included: no answer is a fault of the server, and each has a status, a
    media type and a schema that the document has for it.
    """
    for operation in operations_of(api, {}):
        ask(operation, ended, {}, examples)
    assert "Traceback" not in api.process.output


def test_requests_with_a_key(guarded: Api, ended_of_ada: str, key: str) -> None:
    """The same with a key of the usual scopes: it has its tasks, and what is for admins is refused."""
    statuses = {each.label: ask(each, ended_of_ada, bearer(key), 5) for each in operations_of(guarded, bearer(key))}
    assert 200 in statuses["GET /tasks/{task_id}"]
    assert {label for label, found in statuses.items() if 401 in found} == set()
    of_admins = {f"{method} /functions/{{name}}/paused" for method in ("PUT", "DELETE")}
    assert {label for label, found in statuses.items() if 403 in found} == of_admins
    assert "Traceback" not in guarded.process.output


def test_requests_without_a_credential(guarded: Api, ended_of_ada: str, key: str) -> None:
    """401, as documented, of every operation that the document has security for, and of no other."""
    for operation in operations_of(guarded, bearer(key)):
        statuses = ask(operation, ended_of_ada, {}, 2)
        needs_one = "security" in operation.definition.raw
        assert (statuses == {401}) if needs_one else (401 not in statuses), operation.label
    assert "Traceback" not in guarded.process.output
