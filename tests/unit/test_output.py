"""The schema of a chunk: chunks fit the schema that readers get."""

import dataclasses
import enum
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypedDict

import jsonschema_rs
import msgspec
import pydantic
import pytest

from plugins import Event, Progress, entries
from services.worker.registry.docstrings import docs_of
from services.worker.registry.output import output_of


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int
    y: int | None = None


@dataclasses.dataclass
class Place:
    """Another, which a chunk may be as well."""

    name: str


class Row(msgspec.Struct):
    """A struct."""

    name: str
    at: datetime


class Color(enum.Enum):
    """An enum."""

    RED = "red"


class Word(TypedDict):
    """A typed dict."""

    word: str
    score: float


class Answer(pydantic.BaseModel):
    """A model of pydantic's."""

    text: str = pydantic.Field(alias="said")
    points: list[Point] = []


# A type of chunk, a chunk of it, and JSON that is none.
TYPES: Final[list[tuple[Any, Any, Any]]] = [
    (int, 1, "1"),
    (str, "a", 1),
    (float, 0.5, "x"),
    (bool, True, 0),
    (None, None, 0),
    (dict[str, list[int]], {"a": [1]}, {"a": ["b"]}),
    (int | str, "a", None),
    (Literal["a", "b"], "b", "c"),
    (Color, Color.RED, "blue"),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC), 3),
    (Point, Point(1), {"x": "a"}),
    (Row, Row("a", datetime(2026, 1, 2, tzinfo=UTC)), {"name": "a"}),
    (Word, Word(word="a", score=0.5), {"word": "a"}),
    (Point | Place, Place("a"), {"name": 1}),
    (list[Row], [Row("a", datetime(2026, 1, 2, tzinfo=UTC))], [{"name": "a"}]),
    (list[Point] | None, [Point(1, 2)], [1]),
    (Answer, Answer(said="a", points=[Point(1)]), {"said": 1, "points": []}),
    (list[Answer], [Answer(said="a")], [1]),
]


def output(function: Callable[..., Any]) -> dict[str, Any] | None:
    """The schema of its chunks."""
    return output_of(function, docs_of(function))


@pytest.mark.parametrize(("kind", "chunk", "other"), TYPES, ids=lambda value: repr(value)[:30])
def test_a_chunk_is_what_its_schema_says(kind: Any, chunk: Any, other: Any) -> None:
    """A chunk in the log fits the schema of the type that its function yields; and not all JSON does."""

    async def yields() -> AsyncIterator[Any]:
        yield chunk

    yields.__annotations__["return"] = AsyncIterator[kind]
    schema = output(yields)
    assert schema is not None
    data = msgspec.json.decode(entries.decode(entries.encode("chunk", 1, 0, 0, chunk)).data)
    validator = jsonschema_rs.validator_for(schema)
    assert list(validator.iter_errors(data)) == []
    assert not validator.is_valid(other)


async def _async_generator() -> AsyncGenerator[int, None]:
    yield 1


async def _async_function() -> int:
    return 1


def _generator() -> Generator[int, None, None]:
    yield 1


def _iterator() -> Iterator[int]:
    yield 1


def _wrapped() -> Iterator[int]:
    return iter([1])


def _function() -> int:
    return 1


async def _and_events() -> AsyncIterator[Event | int | Progress]:
    yield 1


@pytest.mark.parametrize(
    "function", [_async_generator, _async_function, _generator, _iterator, _wrapped, _function, _and_events]
)
def test_every_kind_of_function_says_what_its_chunks_are(function: Callable[..., Any]) -> None:
    """Whatever yields or returns it; an event of its own name is no chunk."""
    assert output(function) == {"type": "integer"}


async def _says_nothing():  # type: ignore[no-untyped-def]  # what it tests
    yield 1


async def _only_events() -> AsyncIterator[Progress]:
    yield Progress(1)


async def _objects() -> AsyncIterator[object]:
    yield object()


async def _anything() -> AsyncIterator[Any]:
    yield 1


async def _events() -> AsyncIterator[threading.Event]:
    yield threading.Event()


async def _no_iterator() -> int:  # type: ignore[misc]  # what it tests
    yield 1


@pytest.mark.parametrize("function", [_says_nothing, _only_events, _objects, _anything, _events, _no_iterator])
def test_what_cannot_be_described_is_left_out(function: Callable[..., Any]) -> None:
    """No type, no chunk without a name, no type that JSON has, a type that cannot be: there is no schema."""
    assert output(function) is None


def test_the_docstring_describes_it() -> None:
    """`Yields:` and `Returns:` are about the chunk."""

    async def count() -> AsyncIterator[int]:
        """Count.

        Yields:
            The next number.
        """
        yield 1

    def add() -> int:
        """Add.

        Returns:
            The sum.
        """
        return 1

    assert output(count) == {"type": "integer", "description": "The next number."}
    assert output(add) == {"type": "integer", "description": "The sum."}
