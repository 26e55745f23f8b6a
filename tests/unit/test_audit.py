"""`make check` fails for a package with a known vulnerability, and says loudly if it could not look for any."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.processes import Process, free_port

Answer = Callable[[str], dict[str, Any]]

ADVISORY = {"id": "GHSA-0000-test", "modified": "2026-01-01T00:00:00Z", "summary": "made up", "affected": []}


@contextmanager
def advisories(answer: Answer | None) -> Iterator[tuple[str, list[str]]]:
    """A server of advisories, in OSV's form: its URL, and the packages that it was asked for. None: it is out of order.

    `answer` says what is known about a package.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            names = [query["package"]["name"] for query in body["queries"]]
            asked.extend(names)
            self.say({"results": [answer(name) for name in names]} if answer else None)

        def do_GET(self) -> None:
            self.say(ADVISORY)

        def say(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(503 if content is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            serving.join()


def audited(url: str) -> tuple[int, str]:
    """The exit code and the output of an audit with the advisories of this server."""
    assert "UV" in os.environ, "uv run has started the tests"
    audit = Process([sys.executable, "-m", "scripts.audit", "--service-url", url], {"NO_PROXY": "127.0.0.1"})
    try:
        return audit.wait(), audit.output
    finally:
        audit.kill()


def test_a_package_with_a_known_vulnerability() -> None:
    """The check fails, and names the package and the advisory."""
    with advisories(lambda name: {"vulns": [ADVISORY]} if name == "redis" else {}) as (url, _):
        code, output = audited(url)
    assert code == 1
    assert "redis" in output
    assert "GHSA-0000-test" in output


def test_packages_without_one() -> None:
    """The check passes, after it has asked for those of both services and of development."""
    with advisories(lambda _: {}) as (url, asked):
        code, output = audited(url)
    assert code == 0, output
    assert {"litestar", "taskiq", "msgspec", "pytest"} <= set(asked)
    assert "NOT AUDITED" not in output


@pytest.mark.parametrize("there", [True, False], ids=["out of order", "unreachable"])
def test_no_advisories_to_look_in(there: bool) -> None:
    """A developer without a network can check everything else, and cannot take that for an audit."""
    with advisories(None) as (url, _):
        code, output = audited(url if there else f"http://127.0.0.1:{free_port()}")
    assert code == 0, output
    assert "NOT AUDITED: no advisory data can be reached" in output
