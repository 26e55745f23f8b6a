"""Frames: an entry as Server-Sent Events, or as a line of NDJSON.

A chunk has no event name, so that `onmessage` receives it; everything else is named. Only stored entries have an id: a
frame that is not stored must not move the browser's cursor. A gap moves it, to the start: the old cursor is one of a
log that does not exist any more. A blank line ends an event, and stands nowhere else: some clients take any other for a
message without data.
(https://html.spec.whatwg.org/multipage/server-sent-events.html)
"""

import random
from collections.abc import Callable
from operator import itemgetter
from typing import Final

import msgspec

from plugins import entries
from services.api import foreign


class Format(msgspec.Struct, frozen=True):
    """A format of streams: its content type, its frames, and the bytes that are not entries."""

    media_type: str
    frame: Callable[[int, bytes], bytes]  # of the entry with this seq and this line
    # of a page that begins with this seq; raises ValueError if it has a line that no client could read
    frames: Callable[[int, list[bytes]], bytes]
    gap: Callable[[int, int], bytes]  # entries behind this cursor are missing; these many that there are follow it
    preamble: Callable[[], bytes]
    closing: Callable[[], bytes]  # before the response breaks off
    heartbeat: bytes


_FRAME: Final = b"id: %d\ndata: %b\n\n"

# Templates of frames for a thousand seqs: of the first thousand; and of any other, in which the digits before the last
# three are missing, too. To format a seq takes as long as to insert the data.
_THOUSAND: Final = 1_000
_FIRST_THOUSAND: Final = [b"id: %d\ndata: %%b\n\n" % seq for seq in range(_THOUSAND)]
_OTHER_THOUSAND: Final = [b"id: @%03d\ndata: %%b\n\n" % seq for seq in range(_THOUSAND)]


def _sse_frame(seq: int, line: bytes) -> bytes:
    if (data := entries.chunk_data(line)) is not None:  # true of nearly all
        return _FRAME % (seq, data)
    entry = foreign.decoded(line)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, entry.event.encode(), bytes(entry.data))


def _sse_frames(first: int, lines: list[bytes]) -> bytes:
    start = entries.chunk_data_start(lines)
    if start is None:
        return b"".join([_sse_frame(seq, line) for seq, line in enumerate(lines, first)])
    # True of nearly every page. It is cut without a step of Python's for each entry.
    return _templates(first, first + len(lines)) % tuple(map(itemgetter(slice(start, -1)), lines))


def _templates(first: int, end: int) -> bytes:
    """Return the frames of these seqs, each without its data."""
    parts = []
    for thousand in range(first // _THOUSAND, (end - 1) // _THOUSAND + 1):
        start = thousand * _THOUSAND
        frames = (_OTHER_THOUSAND if thousand else _FIRST_THOUSAND)[max(first - start, 0) : end - start]
        parts.append(b"".join(frames).replace(b"@", b"%d" % thousand))
    return b"".join(parts)


def _lines(_: int, lines: list[bytes]) -> bytes:
    for line in lines:
        if not line.startswith(entries.CHUNK):  # true of few
            foreign.decoded(line)
    return b"\n".join([*lines, b""])


def _retry() -> bytes:
    """Return the time (ms) until a client reconnects, random, so that they do not all reconnect at once."""
    return b"retry: %d\n" % random.randint(1_000, 4_000)  # noqa: S311  # spreads load; keeps no secret


# The preamble is sent at once, so that the client, and every proxy between, sees the stream open.
SSE: Final = Format(
    media_type="text/event-stream",
    frame=_sse_frame,
    frames=_sse_frames,
    gap=lambda after, length: b'id: -1\nevent: gap\ndata: {"after":%d,"length":%d}\n\n' % (after, length),
    preamble=lambda: _retry() + b": open\n",
    closing=_retry,
    heartbeat=b":\n",
)

# A line is an entry as it is stored. An empty line is a heartbeat: readers of NDJSON skip it.
NDJSON: Final = Format(
    media_type="application/x-ndjson",
    frame=lambda _, line: line + b"\n",
    frames=_lines,
    gap=lambda after, length: b'{"event":"gap","data":{"after":%d,"length":%d}}\n' % (after, length),
    preamble=lambda: b"\n",
    closing=lambda: b"",
    heartbeat=b"\n",
)
