"""The bytes of a stream of Server-Sent Events, read more strictly than clients do."""

import re
from typing import Final

# The lines that may stand in a stream. A comment is one without a space, or with one before its text.
FIELD: Final = re.compile(rb"(id|event|data|retry): (.*)", re.DOTALL)
COMMENT: Final = re.compile(rb":( .+)?", re.DOTALL)


def strict(stream: bytes) -> list[dict[str, bytes]]:
    """The events of a stream, each as its fields.

    Every blank line ends an event that has data: some clients take any other blank line for a message without data. No
    event is left open at the end. `retry` counts for the event that it stands before, as clients have it.
    """
    *lines, rest = stream.split(b"\n")
    assert rest == b"", f"cut within a line: {rest!r}"
    events: list[dict[str, bytes]] = []
    fields: dict[str, bytes] = {}
    for line in lines:
        if not line:
            assert "data" in fields, f"a blank line that ends no event, after {events[-1:]} {fields}"
            events.append(fields)
            fields = {}
        elif not COMMENT.fullmatch(line):
            found = FIELD.fullmatch(line)
            assert found, f"neither a field nor a comment: {line!r}"
            fields[found[1].decode()] = found[2]
    assert fields.keys() <= {"retry"}, f"an event without an end: {fields}"
    return events
