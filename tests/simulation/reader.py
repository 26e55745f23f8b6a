"""A client that follows a task's stream as an `EventSource` does: it comes back until it has the end."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from plugins import entries
from tests.simulation.system import ApiProcess


class Reader:
    """Follows one task. `choose` is the API that it comes back to."""

    def __init__(self, task_id: str, choose: Callable[[], ApiProcess]) -> None:
        self.task_id = task_id
        self.seen: list[tuple[int, str, Any]] = []  # seq, event, data
        self.gaps = 0
        self.ended = False  # has the end, or was told that there is none to come
        self._choose = choose
        self._text = ""
        self._api: ApiProcess | None = None
        self._response: asyncio.Task[int] | None = None

    def follow(self) -> None:
        """Come back, if the response has ended, or its process has died."""
        response = self._response
        if self.ended or not (response is None or response.done() or (self._api and self._api.dead)):
            return
        if response is not None and response.done() and response.result() in (204, 404, 410):
            self.ended = True
            return
        self._text = ""
        self._api = self._choose()
        last = self.seen[-1][0] if self.seen else None
        self._response = self._api.stream(self.task_id, last, self._receive)

    def _receive(self, piece: bytes) -> None:
        *frames, self._text = (self._text + piece.decode()).split("\n\n")
        for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
            event = fields.get("event", "message")
            if event == "gap":
                self.gaps += 1
                self.seen.clear()
            elif "id" in fields and "data" in fields:
                self.seen.append((int(fields["id"]), event, msgspec.json.decode(fields["data"])))
                self.ended = event in entries.ENDS


def as_read(entry: entries.Entry) -> tuple[int, str, Any]:
    """An entry as a reader sees it."""
    return (entry.seq, "message" if entry.event == "chunk" else entry.event, msgspec.json.decode(entry.data))
