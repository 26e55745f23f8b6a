"""Readers get the text of a `Failure`, and of any other exception the type and where the log has the rest."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import pytest

from tests.support.client import client_of, events, follow, start
from tests.support.processes import Api, Process, api_process, worker_process

pytestmark = pytest.mark.anyio

SECRET: Final = "Canary"


@pytest.fixture(scope="module")
def worker(own_url: str) -> Iterator[Process]:
    """A worker as it is deployed, with a log of JSON."""
    with worker_process(own_url, TAILRACE_FAILURE_TEXT="declared", TAILRACE_LOG_FORMAT="json") as process:
        yield process


@pytest.fixture(scope="module")
def api(own_url: str, worker: Process) -> Iterator[Api]:
    """An API before it."""
    with api_process(own_url) as one:
        yield one


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with client_of(api) as client:
        yield client


async def failure(client: httpx.AsyncClient, function: str, **given: Any) -> dict[str, Any]:
    """Why a task of this function failed. The secret is neither in its stream nor in its status."""
    task_id = await start(client, function, **given)
    seen = await events(client, task_id)
    assert seen[-1].event == "failed"
    assert SECRET not in "".join(event.data for event in seen)
    assert SECRET not in (await client.get(f"/tasks/{task_id}")).text
    why = json.loads(seen[-1].data)
    assert why["code"] == "error"
    return dict(why)


def logged(worker: Process, reference: str) -> list[dict[str, Any]]:
    """The lines of the log with this reference."""
    worker.wait_for(reference)
    lines = [json.loads(line) for line in worker.lines if line.startswith("{")]
    return [line for line in lines if line.get("reference") == reference]


DECLARED: Final = {
    "a failure": "the model is overloaded",
    "a failure with a note": "the model is overloaded",
    "a kind of failure": "no credit is left",
    "failures": "one; two",
}

WITHHELD: Final = {
    "an exception": "ValueError",
    "a failure without words": "Failure",
    "a failure and an exception": "one; KeyError",
    "an exit": "SystemExit",
}


@pytest.mark.parametrize(("what", "message"), DECLARED.items())
@pytest.mark.parametrize("function", ["secretive", "secretive_in_a_thread"])
async def test_the_text_of_a_failure(client: httpx.AsyncClient, function: str, what: str, message: str) -> None:
    """The author has written it for readers; they get no more than that."""
    assert await failure(client, function, what=what) == {"code": "error", "message": message}


@pytest.mark.parametrize(("what", "message"), WITHHELD.items())
@pytest.mark.parametrize("function", ["secretive", "secretive_in_a_thread"])
async def test_the_text_of_another_exception(
    worker: Process, client: httpx.AsyncClient, function: str, what: str, message: str
) -> None:
    """Readers get its type and a reference, and the log has the traceback with the same reference."""
    why = await failure(client, function, what=what)
    assert why == {"code": "error", "message": message, "reference": why["reference"]}
    (line,) = logged(worker, why["reference"])
    assert (line["function"], line["level"]) == (function, "error")
    assert SECRET in line["exception"]


async def test_an_exit_in_a_callback(worker: Process, client: httpx.AsyncClient) -> None:
    """Its text is withheld as that of any exception."""
    why = await failure(client, "secretive_exit")
    assert why["message"] == "SystemExit"
    (line,) = logged(worker, why["reference"])
    assert SECRET in line["exception"]


async def test_a_chunk_that_does_not_let_itself_be_written(worker: Process, client: httpx.AsyncClient) -> None:
    """Readers get the number of the chunk and the type of the error, and the log has the rest."""
    why = await failure(client, "secretive_chunk")
    assert why["message"].startswith("chunk 0 is not JSON: Closed.model_dump raised Pydantic")
    worker.wait_for(f'"chunk not JSON".*{SECRET}|{SECRET}.*"chunk not JSON"')


async def test_the_mark_of_a_retry(client: httpx.AsyncClient) -> None:
    """It says nothing about why the attempt before failed."""
    seen = await events(client, await start(client, "secretive_at_first"))
    assert [(event.event, event.data) for event in seen[:2]] == [
        ("attempt", '{"attempt":2,"keeps":false}'),
        ("message", "2"),
    ]


async def test_every_text_for_authors(own_database: str) -> None:
    """With TAILRACE_FAILURE_TEXT=always, as `make run` sets it, the text is in the end of the task."""
    with worker_process(own_database, TAILRACE_FAILURE_TEXT="always"), api_process(own_database) as api:
        async with client_of(api) as client:
            task_id = await start(client, "raises", after=0, message="no such model")
            assert await follow(client, task_id) == (
                [],
                "failed",
                {"code": "error", "message": "ValueError: no such model"},
            )
