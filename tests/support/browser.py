"""Chromium with a page of another origin than the API's, which does what `page.js` says and reports what it got."""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.support.documents import script_of
from tests.support.processes import Process
from tests.support.programs import program
from tests.support.waiting import DEADLINE_S

PAGE: Final = b'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script src="/page.js"></script>'

# The scripts that it may load, by their paths: its own, and the one of the document.
SCRIPTS: Final[dict[str, Callable[[], bytes]]] = {
    "/page.js": Path(__file__).with_name("page.js").read_bytes,
    "/follow.js": lambda: script_of("docs/api.md").encode(),
}

# Without a window, and without what it would ask of servers elsewhere. Root has no sandbox.
OPTIONS: Final = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


class Pages:
    """A server of the page, under two names, which a browser takes for two sites."""

    def __init__(self) -> None:
        self._reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.origin: Final = f"http://localhost:{port}"
        self.other_origin: Final = f"http://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        reports = self._reports

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # by the method's name
                script = SCRIPTS.get(self.path)
                self._answer(script() if script else PAGE, "text/javascript" if script else "text/html")

            def do_POST(self) -> None:
                reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(b"", "text/plain")

            def _answer(self, body: bytes, media_type: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def visit(self, folder: Path, origin: str, *names: str, **given: str) -> dict[str, Any]:
        """Let a browser, whose profile is in this folder, open the page of this origin, which calls these functions.

        What each returned, or the name of its error, by its name.
        """
        fragment = quote(json.dumps({"names": names, **given}))
        command = [program("chromium"), *OPTIONS, f"--user-data-dir={folder}", f"{origin}/#{fragment}"]
        browser = Process(command, {"HOME": str(folder)})
        try:
            return self._reports.get(timeout=2 * DEADLINE_S)
        except queue.Empty:
            raise AssertionError(f"the page reported nothing:\n{browser.output}") from None
        finally:
            browser.kill()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def pages() -> Iterator[Pages]:
    """A server of pages."""
    one = Pages()
    try:
        yield one
    finally:
        one.close()
