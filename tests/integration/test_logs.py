"""A text of a client or of a function stays within its line of the log: it cannot forge another."""

import json
import re
import signal
from datetime import datetime
from typing import Any, Final

import httpx
import pytest

from tests.support.client import client_of, follow, start
from tests.support.processes import api_process, worker_process

pytestmark = pytest.mark.anyio

LINE_OF_JSON: Final = '{"event": "forged"}'
LINE_OF_TEXT: Final = "2026-01-01T00:00:00Z [warning  ] function paused    function=count"
FORGED: Final = f"x\n{LINE_OF_TEXT}\r\x1b[2K\u2028{LINE_OF_JSON}\n{LINE_OF_JSON}"

# A line of the log for a person, with its time and its level.
LINE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z \[\w+ *\] ")


def objects(lines: list[str]) -> list[dict[str, Any]]:
    """The lines of the service. Taskiq's manager of the worker has its own, and takes its format from the command."""
    return [json.loads(line) for line in lines if not line.startswith("[")]


async def forge(client: httpx.AsyncClient) -> None:
    """Run a function that logs the text and fails with it, and send the text to the API."""
    assert (await follow(client, await start(client, "forges", text=FORGED)))[1] == "failed"
    for path in ("/functions/a%0Ab", "/tasks?a%0D%0Ab=1"):
        await client.get(path, headers={"Host": "localhost"})


async def test_lines_of_json(own_database: str) -> None:
    """Where standard output is no terminal, every line of both services is an object with time, level and event."""
    auto = {"TAILRACE_LOG_FORMAT": "auto"}
    with worker_process(own_database, **auto) as worker, api_process(own_database, **auto) as api:
        async with client_of(api) as client:
            await forge(client)
        worker.wait_for('"function failed"')
        said = objects(worker.lines), objects(api.process.lines)
    for each in (*said[0], *said[1]):
        assert datetime.fromisoformat(each["timestamp"]).utcoffset() is not None
        assert each["level"] in ("debug", "info", "warning", "error")
        assert each["event"] != "forged"
    worker_events, api_events = [[each["event"] for each in lines] for lines in said]
    # Of the function, of a library and of a thread; and of the servers themselves.
    assert worker_events.count(FORGED) == 3
    assert {"thread crashed", "function failed", "Listening started."} <= set(worker_events)
    assert [FORGED in each["exception"] for each in said[0] if each["event"] == "function failed"] == [True]
    assert any(event.startswith("Uvicorn running on") for event in api_events)


async def test_a_request_without_its_query(own_database: str) -> None:
    """The log has a line for each request, with the path and without the query, which may have what is not for the log;
    `--no-access-log` has none.
    """
    for flags, logged in (([], True), (["--no-access-log"], False)):
        with api_process(own_database, *flags, TAILRACE_LOG_FORMAT="json") as api:
            async with client_of(api) as client:
                for path in ("/tasks?before=Canary", "/health/live?Canary=1", "/nope?Canary"):
                    await client.get(path)
            assert api.process.stop() in (0, -signal.SIGTERM)
            requests = [line for line in objects(api.process.lines) if line["event"] == "request"]
        assert [(line["method"], line["path"], line["status"]) for line in requests] == [
            ("GET", "/tasks", 400),
            ("GET", "/health/live", 400),
            ("GET", "/nope", 404),
        ] * logged
        assert "Canary" not in api.process.output


async def test_lines_for_a_person(own_database: str) -> None:
    """Further lines of a text are indented, and no character moves the cursor."""
    with worker_process(own_database) as worker, api_process(own_database) as api:
        async with client_of(api) as client:
            await forge(client)
        worker.wait_for("function failed")
        lines = [line for line in worker.output.split("\n") if line and not line.startswith("[")]
    assert "paused" not in "".join(line for line in lines if LINE.match(line) and "forges" not in line)
    for line in lines:
        assert line.isprintable(), line
        assert LINE.match(line) or line.startswith("    "), line
        assert not line.startswith("2026-01-01")
