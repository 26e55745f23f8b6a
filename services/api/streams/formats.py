"""An entry as a reader gets it: as a frame of Server-Sent Events, or as a line of NDJSON.

A chunk has no event name, so that `onmessage` sees it; everything else is named. Only stored entries carry an id:
a frame that is not stored must not move the browser's cursor.
(https://html.spec.whatwg.org/multipage/server-sent-events.html)
"""

import random
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

import msgspec

from plugins import entries


class Format(msgspec.Struct, frozen=True):
    """How a stream is written: its content type, its frames, and what it says when there is nothing to say."""

    media_type: str
    frame: Callable[[int, bytes], bytes]  # of the entry with this seq and this line
    frames: Callable[[int, list[bytes]], bytes]  # of a page, which begins with this seq
    notice: Callable[[str, Any], bytes]
    hello: Callable[[], bytes]
    farewell: Callable[[], bytes]  # where the process ends before the stream does
    heartbeat: bytes


_FRAME: Final = b"id: %d\ndata: %b\n\n"

# Frames of a thousand seqs that wait for their data: of the first thousand, and of any other, which also wait for what
# stands before the last three digits. To write a seq into a frame takes as long as to write the data.
_THOUSAND: Final = 1_000
_FIRST: Final = [b"id: %d\ndata: %%b\n\n" % seq for seq in range(_THOUSAND)]
_OTHER: Final = [b"id: @%03d\ndata: %%b\n\n" % seq for seq in range(_THOUSAND)]


def _sse_frame(seq: int, line: bytes) -> bytes:
    if (data := entries.chunk_data(line)) is not None:  # as of nearly all
        return _FRAME % (seq, data)
    entry = entries.decode(line)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, entry.event.encode(), bytes(entry.data))


def _sse_frames(first: int, lines: list[bytes]) -> bytes:
    start = entries.chunk_data_start(lines)
    if start is None:
        return b"".join([_sse_frame(seq, line) for seq, line in enumerate(lines, first)])
    # Nearly every page is like that, and cut without a step of Python's for each entry.
    return _blanks(first, first + len(lines)) % tuple(map(itemgetter(slice(start, -1)), lines))


def _blanks(first: int, end: int) -> bytes:
    """The frames of these seqs, each without its data."""
    parts = []
    for thousand in range(first // _THOUSAND, (end - 1) // _THOUSAND + 1):
        start = thousand * _THOUSAND
        frames = (_OTHER if thousand else _FIRST)[max(first - start, 0) : end - start]
        parts.append(b"".join(frames).replace(b"@", b"%d" % thousand))
    return b"".join(parts)


def _sse_notice(event: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), msgspec.json.encode(data))


def _retry() -> bytes:
    """How long (ms) to wait before coming back, different for each, so that they do not all come at once."""
    return b"retry: %d\n" % random.randint(1_000, 4_000)  # noqa: S311  # spreads load; keeps no secret


# The first bytes go out at once, so that the client, and every proxy between, sees the stream open.
SSE: Final = Format(
    media_type="text/event-stream",
    frame=_sse_frame,
    frames=_sse_frames,
    notice=_sse_notice,
    hello=lambda: _retry() + b": open\n\n",
    farewell=lambda: _retry() + b"\n",
    heartbeat=b": \n\n",
)

# A line is an entry as it is stored. An empty line is a heartbeat: readers of NDJSON skip it.
NDJSON: Final = Format(
    media_type="application/x-ndjson",
    frame=lambda _, line: line + b"\n",
    frames=lambda _, lines: b"\n".join([*lines, b""]),
    notice=lambda event, data: msgspec.json.encode({"event": event, "data": data}) + b"\n",
    hello=lambda: b"\n",
    farewell=lambda: b"",
    heartbeat=b"\n",
)
