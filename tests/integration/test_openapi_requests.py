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
    response_schema_conformance,
    status_code_conformance,
)

from plugins import keys
from services.worker.registry import announce, registry
from tests.support.processes import ROOT, Api, api_process
from tests.support.settings import NO_HEARTBEAT
from tests.support.tasks import note_ended
from tests.support.waiting import DEADLINE_S

CHECKS: Final[list[Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


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


@pytest.mark.parametrize("examples", [10, pytest.param(500, marks=[pytest.mark.chaos, pytest.mark.timeout(1_800)])])
def test_requests_of_the_document(api: Api, ended: str, examples: int) -> None:
    """Of every operation, those of the functions included: no answer is a fault of the server, and each has a status, a
    media type and a schema that the document has for it.
    """
    schema = schemathesis.openapi.from_url(f"{api.url}/schema")
    found: list[Any] = list(schema.get_all_operations())
    operations = [each.ok() for each in found]
    assert len(operations) > 15
    for operation in operations:

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), known=st.booleans())
        def ask(case: Any, known: bool) -> None:
            if known and "task_id" in (case.path_parameters or {}):
                case.path_parameters["task_id"] = ended
            answer = case.call(timeout=DEADLINE_S)
            # A stream is a text for OpenAPI, and an object for each event for schemathesis.
            is_stream = answer.headers.get("content-type", [""])[0].startswith("text/event-stream")
            case.validate_response(answer, checks=CHECKS, excluded_checks=CHECKS[-1:] if is_stream else [])

        ask()
    assert "Traceback" not in api.process.output
