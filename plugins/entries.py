"""Entries of the log: each is one line of JSON, its fields in this order, because `append.lua` reads the first two.

| event       | data                             | ends the task |
|-------------|----------------------------------|---------------|
| `chunk`     | what the function yielded        | no            |
| another     | the data of an `Event`           | no            |
| `attempt`   | `{"attempt": 2, "keeps": false}` | no            |
| `done`      | `{"chunks": n}`                  | yes           |
| `failed`    | `{"code": …, "message": …, …}`   | yes           |
| `cancelled` | `{"by": …}`                      | yes           |
"""

import json
import time
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import msgspec

ENDS: Final = frozenset({"done", "failed", "cancelled"})

# Characters that end a line for some readers of lines (Python's str.splitlines, httpx) but not for JSON or SSE. They
# can only stand inside a JSON string, so the escape is the same value.
_LINE_ENDS: Final = (
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
    ("\x85".encode(), rb"\u0085"),
)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One element of the log. `at` is milliseconds since the epoch; `data` is JSON text as it stands in the log."""

    event: str
    attempt: int
    seq: int
    at: int
    data: msgspec.Raw

    @property
    def ends(self) -> bool:
        """Whether this entry is the last one of its task."""
        return self.event in ENDS


# The layout of a line, for code that reads one without a JSON parser. A line begins with its event and its attempt:
# `append.lua` reads both with this pattern of Lua's, which stands there once more.
LUA_HEAD: Final = '^{"event":"([%w_.-]+)","attempt":(%d+),'

# The beginning of a chunk's line, and the mark before its data: between the two are only numbers, `}` is behind it.
CHUNK: Final = b'{"event":"chunk","attempt":'
_DATA: Final = b',"data":'
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")


class NotJSONError(ValueError):
    """A value that JSON cannot represent: the message says why."""


# Levels of arrays and objects. Encoders and decoders, here and at the clients, recurse; none fails this early.
MAX_DEPTH: Final = 100

# Types that need no check after encoding: JSON can represent them, and they contain no other values.
_PLAIN: Final = frozenset({str, int, bool})


def _plain(value: Any) -> Any:
    """Return what stands for a value that msgspec does not know, as `json.dumps` has it; a model of pydantic's dumps
    itself.
    """
    if callable(dump := getattr(type(value), "model_dump", None)):
        try:
            return dump(value, mode="json", by_alias=True)  # as its schema says
        except Exception as error:  # the text of its author is not for every reader
            raise TypeError(f"{type(value).__name__}.model_dump raised {type(error).__name__}") from error
    # Of a class of their own: strings of parsers and templates, numbers of numpy.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, msgspec.Raw):  # to be verified
        return msgspec.json.decode(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)
_decoder: Final = msgspec.json.Decoder(Entry)


def now_ms() -> int:
    """Return the time for an entry's `at`, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def encode(event: str, attempt: int, seq: int, at: int, data: Any) -> bytes:
    """Encode an entry as its line. `data` is any JSON value, or what msgspec turns into one (dataclass, Struct,
    datetime, …), or a pydantic model.

    Raises:
        NotJSONError: `data` has a value that JSON cannot represent: another type, NaN or an infinity, a lone surrogate,
        a cycle;
            or it is nested deeper than `MAX_DEPTH`.
    """
    try:
        line = _encoder.encode(Entry(event, attempt, seq, at, data))
        if type(data) not in _PLAIN:
            _verify(line, data)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise NotJSONError(str(error)) from error
    for character, escape in _LINE_ENDS:
        if character in line:
            line = line.replace(character, escape)
    return line


def decode(line: bytes) -> Entry:
    """The entry of a line.

    Raises:
        msgspec.DecodeError: the line is not an entry.
    """
    return _decoder.decode(line)


def chunk_data(line: bytes) -> bytes | None:
    """Cut the data of a chunk out of its line, which costs half of what decoding does. Return None for other events."""
    return line[line.find(_DATA) + len(_DATA) : -1] if line.startswith(CHUNK) else None


def chunk_data_start(lines: list[bytes]) -> int | None:
    """Return where the data begins in all of these lines, of which there must be one: `line[start:-1]` is the data.

    Return None if they are not all chunks, or if their data does not begin at the same position. There is no step of
    Python's for each line: entries of a page are nearly always chunks whose numbers have the same number of digits.
    """
    start = lines[0].find(_DATA) + len(_DATA)
    head = lines[0][:start].translate(_DIGITS)
    heads = b"".join(map(itemgetter(slice(start)), lines)).translate(_DIGITS)
    return start if head.startswith(CHUNK) and heads == head * len(lines) else None


def too_deep(value: Any) -> bool:
    """Return whether lists and dicts are nested deeper than `MAX_DEPTH`. This does not recurse."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def has_more_values(value: Any, count: int) -> bool:
    """Return whether a JSON value consists of more than `count` values: itself, and all within."""
    waiting, seen = [value], 0
    while waiting and seen <= count:
        part = waiting.pop()
        seen += 1
        if isinstance(part, dict):
            waiting += islice(part.values(), count)
        elif isinstance(part, list):
            waiting += islice(part, count)
    return seen > count


def _verify(line: bytes, data: Any) -> None:
    # msgspec writes NaN and the infinities as null, and as "nan" and "inf" if they are keys: a value would change in
    # silence. Only a line with one of these can have met one, so only there the standard library, which can refuse
    # them, encodes once more.
    if b"null" in line or b'nan":' in line or b'inf":' in line:
        json.dumps(msgspec.to_builtins(data, enc_hook=_plain), allow_nan=False)
    if b"\n" in line or b"\r" in line:
        raise ValueError("raw JSON must be one line")
    # What can be written must be readable: raw JSON may be none, and a field that is not set leaves no data.
    entry = decode(line)
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and too_deep(msgspec.json.decode(entry.data)):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
