"""Entries: every JSON value goes into one line and comes back, and what is not JSON is refused before it is written."""

import dataclasses
import datetime
import json
import math
import re
import sys
from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugins import append, entries, event, keys

# JSON's own texts: everything but lone surrogates, and often what ends a line somewhere.
TEXTS: Final = st.text() | st.text(alphabet=st.sampled_from('a\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0"\\ \ufeff💧'))
NUMBERS: Final = st.integers() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False, allow_infinity=False)
VALUES: Final = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
)
SEQS: Final = st.integers(0, 2**53)


def written(data: Any) -> bytes:
    """The line of a chunk."""
    return entries.encode("chunk", 1, 0, 1_764_000_000_000, data)


def read(line: bytes) -> Any:
    """The value of a line, as a reader gets it."""
    return msgspec.json.decode(entries.decode(line).data)


@given(VALUES)
@example(None)
@example(-0.0)
@example(5e-324)
@example(sys.float_info.max)
@example([2**63, 2**64, -(2**63) - 1, 10**60, 10**4000])
@example("\u2028\u2029\x85\\u2028\u0085é\xa0")
@example({"": {"\u2028": ["\x85"], "null": None, "NaN": "NaN"}})
def test_any_value_comes_back(value: Any) -> None:
    """A reader gets the values that a function yields: no number rounded, no text changed, no order lost."""
    assert repr(read(written(value))) == repr(value)  # as text, because 1 == 1.0 == True and 0.0 == -0.0


@given(VALUES)
@example("a\nb\rc\r\nd\ve\ff\x1cg\x85h\u2028i\u2029j")
@example({"\u2028": "\u2029", "\x85": "\r\n"})
def test_any_value_is_one_line(value: Any) -> None:
    """Whatever a client takes for the end of a line, an entry has none: SSE frames and NDJSON cannot break."""
    line = written(value)

    assert len(line.decode().splitlines()) == 1
    assert not {b"\n"[0], b"\r"[0], 0} & set(line)


@given(VALUES, st.integers(0, 10**6), SEQS, SEQS)
def test_a_line_begins_as_the_write_rule_reads_it(value: Any, attempt: int, seq: int, at: int) -> None:
    """`append.lua` reads event and attempt by their place, whatever the data pretends to be."""
    line = entries.encode("chunk", attempt, seq, at, value)

    assert line.startswith(b'{"event":"chunk","attempt":%d,"seq":%d,"at":%d,"data":' % (attempt, seq, at))
    assert json.loads(line) == {"event": "chunk", "attempt": attempt, "seq": seq, "at": at, "data": value}


@given(st.sampled_from([*entries.ENDS, "chunk", "attempt"]) | st.from_regex(event.EVENT_NAME, fullmatch=True), SEQS)
def test_the_write_rules_pattern_is_that_of_the_layout(name: str, attempt: int) -> None:
    """`append.lua` has the pattern that stands beside the layout: it finds any event and attempt, and every end."""
    assert f"'{entries.LUA_HEAD}'" in append.SCRIPT
    pattern = entries.LUA_HEAD.replace("%w", "A-Za-z0-9").replace("%d", "[0-9]")  # Lua's, as Python has it
    found = re.match(pattern, entries.encode(name, attempt, 1, 1, None).decode())
    assert found is not None
    assert found.groups() == (name, str(attempt))
    assert set(re.findall(r"event == '(\w+)'", append.SCRIPT)) == entries.ENDS


@given(st.lists(st.tuples(st.sampled_from(["chunk", "chunk", "done", "x"]), SEQS, VALUES), min_size=1, max_size=4))
def test_data_that_is_cut_out(said: list[tuple[str, int, Any]]) -> None:
    """Is that of the entry; and of no entry but chunks."""
    lines = [entries.encode(name, 1, seq, 1_764_000_000_000, data) for name, seq, data in said]
    for (name, *_), line in zip(said, lines, strict=True):
        assert entries.chunk_data(line) == (bytes(entries.decode(line).data) if name == "chunk" else None)
    start = entries.chunk_data_start(lines)
    if start is not None:
        assert [line[start:-1] for line in lines] == [entries.chunk_data(line) for line in lines]


@pytest.mark.parametrize("event", ["chunk", "attempt", "done", "failed", "cancelled"])
def test_an_entry_comes_back(event: str) -> None:
    """All of an entry survives, and only the three ends end a task."""
    entry = entries.decode(entries.encode(event, 3, 7, 1_764_000_000_000, {"chunks": 7}))

    assert (entry.event, entry.attempt, entry.seq, entry.at) == (event, 3, 7, 1_764_000_000_000)
    assert bytes(entry.data) == b'{"chunks":7}'
    assert entry.ends == (event in {"done", "failed", "cancelled"})


@dataclasses.dataclass
class Point:
    """A type that a function may yield instead of a dict."""

    x: float
    label: str | None = None


class Pair(msgspec.Struct):
    """Another such thing."""

    left: Any
    right: Any = None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Point(1.5), {"x": 1.5, "label": None}),
        (Pair((1, 2)), {"left": [1, 2], "right": None}),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        ({datetime.date(2026, 1, 31): None}, {"2026-01-31": None}),
        ((1, (2, None)), [1, [2, None]]),
        ({1: "one", 2: None}, {"1": "one", "2": None}),
        (b"\x00\xff", "AP8="),
    ],
)
def test_what_has_a_json_form(value: Any, said: Any) -> None:
    """Dataclasses, structs, dates and their like are written as msgspec documents it."""
    assert read(written(value)) == said


NOT_A_NUMBER: Final = st.sampled_from([math.nan, -math.nan, math.inf, -math.inf])


@st.composite
def with_not_a_number(draw: st.DrawFn) -> Any:
    """Any value with NaN or an infinity somewhere in it."""
    value: Any = draw(NOT_A_NUMBER)
    for _ in range(draw(st.integers(0, 5))):
        neighbours = draw(st.lists(VALUES, max_size=3))
        place = draw(st.integers(0, len(neighbours)))
        wrapped: list[Any] = [*neighbours[:place], value, *neighbours[place:]]
        value = draw(
            st.sampled_from([wrapped, tuple(wrapped), dict(enumerate(wrapped)), Pair(wrapped), {"null": wrapped}])
        )
    return value


@given(with_not_a_number())
@example([None, {"a": [None, math.inf]}])
@example(Point(math.nan))
@example({"nan": math.nan, "null": None})
def test_a_number_that_json_does_not_have(value: Any) -> None:
    """NaN and the infinities are refused wherever they hide, beside nulls too: never written as null in silence."""
    with pytest.raises(entries.NotJSONError, match="JSON"):
        written(value)


def cycle() -> Any:
    """A list in a dict in the list."""
    round_and_round: list[Any] = []
    round_and_round.append({"again": round_and_round, "null": None})
    return round_and_round


@dataclasses.dataclass
class Two:
    """Two values."""

    left: Any
    right: Any


class Text(str):
    """As parsers and templates have one: `str()` of it is something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Whole(int):
    """As libraries of numbers have one."""


class Broken(float):
    """The same, with a fraction."""


OF_A_CLASS_OF_THEIR_OWN: Final[dict[str, tuple[Any, Any]]] = {
    "text": (Text("a"), "a"),
    "a whole number": (Whole(3), 3),
    "a number": (Broken(1.5), 1.5),
    "in a list": ([Text("a"), [Broken(2.5)]], ["a", [2.5]]),
    "as a name": ({Text("a"): Whole(1)}, {"a": 1}),
    "beside null": ([None, Text("a"), {"x": Whole(1)}], [None, "a", {"x": 1}]),
    "a number as a name": ({Whole(3): None, Broken(1.5): 1}, {"3": None, "1.5": 1}),
    "in a dataclass": (Two(Text("a"), Broken(1.5)), {"left": "a", "right": 1.5}),
    "raw text with null": (msgspec.Raw(b'{"a":null}'), {"a": None}),
    "raw text with null, inside": ([msgspec.Raw(b"null"), {"x": msgspec.Raw(b"[null]")}], [None, {"x": [None]}]),
}


@pytest.mark.parametrize(("value", "read_as"), OF_A_CLASS_OF_THEIR_OWN.values(), ids=OF_A_CLASS_OF_THEIR_OWN)
def test_values_of_a_class_of_their_own(value: Any, read_as: Any) -> None:
    """A reader gets their value: that of a string is its characters, whatever `str()` makes of it."""
    assert read(written(value)) == read_as


NOT_JSON: Final = {
    "an object": object(),
    "an object beside null": [None, object()],
    "a complex number": 1j,
    "a function": print,
    "a generator": (number for number in range(3)),
    "an exception": ValueError("x"),
    "a tuple as a name": {(1, 2): 3},
    "a tuple as a name of null": {(1, 2): None},
    "None as a name": {None: 1},
    "NaN of a class of its own": [Broken("nan")],
    "infinity of a class of its own, as a name": {Broken("inf"): 1},
    "NaN as a name": {math.nan: 1},
    "infinity as a name, inside": [{"x": {-math.inf: "y"}}],
    "NaN in raw text": msgspec.Raw(b'{"a":NaN}'),
    "a lone surrogate": "a\ud800b",
    "a lone surrogate as a name": {"\udfff": 1},
    "a lone surrogate beside null": [None, "\udc80"],
    "a cycle": cycle(),
    "more digits than Python says": 10**5000,
}


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
def test_what_json_cannot_say(value: Any) -> None:
    """It is refused with a reason, and nothing else is raised: a function's mistake ends its task, not the writer."""
    with pytest.raises(entries.NotJSONError) as refused:
        written(value)
    assert str(refused.value)


UNFIT: Final = {
    "raw text that is no JSON": msgspec.Raw(b"oops"),
    "raw text that is two values": msgspec.Raw(b"1,2"),
    "nothing, raw": msgspec.Raw(b""),
    "raw text in lines": msgspec.Raw(b'{\n"a": 1\r\n}'),
    "raw text in lines, inside": [msgspec.Raw(b"\n1")],
    "a value that is not set": msgspec.UNSET,
}


@pytest.mark.parametrize("value", UNFIT.values(), ids=UNFIT)
def test_msgspec_words_for_what_is_no_value(value: Any) -> None:
    """Values that msgspec copies as they are, or omits, are refused or become one line with data: no reader fails."""
    try:
        line = written(value)
    except entries.NotJSONError:
        return
    assert len(line.decode().splitlines()) == 1
    assert entries.decode(line).event == "chunk"
    read(line)


def nested(depth: int) -> Any:
    """A list in a list in a list …"""
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


def deeper(frames: int, line: bytes) -> entries.Entry:
    """Read a line from so many calls deep."""
    return deeper(frames - 1, line) if frames else entries.decode(line)


def test_what_can_be_written_can_be_read() -> None:
    """A value is refused for its depth when it is written, or any reader can read it, however deep its own calls."""
    for depth in (1, 100, 900, 920, 940, 960, 980, 1_000, 5_000):
        try:
            line = written(nested(depth))
        except entries.NotJSONError:
            continue
        assert deeper(100, line).seq == 0, depth


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"null", b'{"event":"chunk"}', b'{"event":1,"attempt":1,"seq":0,"at":1,"data":1}']
)
def test_a_line_that_is_no_entry(line: bytes) -> None:
    """Foreign bytes in a log are noticed, not taken for an entry."""
    with pytest.raises(msgspec.DecodeError):
        entries.decode(line)


def test_the_names_that_others_rely_on() -> None:
    """Names and lifetime are inherited: clients of the pattern read them straight from Redis."""
    assert keys.log("abc") == "stream:abc:chunks"
    assert keys.channel("abc") == "stream:abc"
    assert keys.metadata("abc") == "stream:abc:metadata"
    assert keys.CHUNK_TTL_S == 3600


@pytest.mark.parametrize(
    "task_id", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 32 + "\n", "\n" + "0" * 32, "１" * 32]
)
def test_what_is_no_task_id(task_id: str) -> None:
    """Only 32 lower-case hexadecimal digits become a part of a key."""
    assert not keys.TASK_ID.fullmatch(task_id)
    assert keys.TASK_ID.fullmatch("0123456789abcdef" * 2)
