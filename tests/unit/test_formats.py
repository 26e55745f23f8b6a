"""Pages of entries as frames: cut in one go, they are what they would be one by one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins import entries
from services.api.streams.formats import NDJSON, SSE
from services.api.streams.pages import MAX_ENTRIES

# Numbers of few lengths, so that entries of a page often look alike, and often just not.
NUMBERS = st.sampled_from([1, 7, 9, 10, 12, 99, 100])
TIMES = st.sampled_from([999_999_999_999, 1_764_000_000_000, 1_764_000_000_001, 10_000_000_000_000])

# Data that looks like what it is cut by, and data that digits could be taken from.
DATA = st.one_of(
    st.integers(0, 100),
    st.text(max_size=5),
    st.fixed_dictionaries({"a": st.integers(0, 9), "data": st.integers(0, 99)}),
    st.just({"event": "chunk", "attempt": 1, "seq": 1, "at": 1, "data": ',"data":'}),
)


@st.composite
def pages(draw: st.DrawFn) -> tuple[int, list[bytes]]:
    """Entries that stand behind each other, and the seq of the first."""
    first = draw(st.sampled_from([0, 8, 97, 998, 1_000, 99_998]))
    events = st.sampled_from(["chunk", "chunk", "chunk", "attempt", "done"])
    lines = [
        entries.encode(draw(events), draw(NUMBERS), seq, draw(TIMES), draw(DATA))
        for seq in range(first, first + draw(st.integers(1, 6)))
    ]
    return first, lines


@given(pages())
def test_a_page_is_what_its_entries_are(page: tuple[int, list[bytes]]) -> None:
    """Whatever stands in a log, a reader that catches up gets what one gets that has been there all the time."""
    first, lines = page
    for written in (SSE, NDJSON):
        assert written.frames(first, lines) == b"".join(
            written.frame(seq, line) for seq, line in enumerate(lines, first)
        )


@given(st.integers(0, 2_000), st.lists(DATA, min_size=1, max_size=30))
def test_a_frame_has_the_data_and_its_place(first: int, chunks: list[object]) -> None:
    """The `id` is the entry's seq, and the data what the function yielded."""
    lines = [entries.encode("chunk", 1, seq, 1_764_000_000_000, data) for seq, data in enumerate(chunks, first)]
    frames = SSE.frames(first, lines).split(b"\n\n")
    assert frames.pop() == b""
    for seq, (frame, data) in enumerate(zip(frames, chunks, strict=True), first):
        id_, data_ = frame.split(b"\n")
        assert id_ == b"id: %d" % seq
        assert msgspec.json.decode(data_.removeprefix(b"data: ")) == data


@pytest.mark.parametrize("first", [0, 990, 9_000])
def test_a_long_page(first: int) -> None:
    """The same for pages as long as they come."""
    lines = [entries.encode("chunk", 1, seq, 1_764_000_000_000, "@") for seq in range(first, first + MAX_ENTRIES)]
    assert SSE.frames(first, lines) == b"".join(
        b'id: %d\ndata: "@"\n\n' % seq for seq in range(first, first + MAX_ENTRIES)
    )
    for part in range(0, MAX_ENTRIES, 7):  # where all numbers are equally long, and where they are not
        page = lines[part : part + 7]
        assert SSE.frames(first + part, page) == b"".join(
            SSE.frame(seq, line) for seq, line in enumerate(page, first + part)
        )
