"""The schema from the signature: what the api takes by it, the worker converts, and nothing else."""

import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import uuid
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired, TypedDict

import jsonschema_rs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from services.api.http.validation import faults
from services.worker.registry.docstrings import Texts
from services.worker.registry.signature import Input, input_of


class Colour(enum.Enum):
    """Of text."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Of a whole number."""

    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    """With a default."""

    x: float
    label: Annotated[str, "What is there."] = ""


class Size(TypedDict):
    """With a key that may be missing."""

    width: int
    height: NotRequired[int]


class Pair(NamedTuple):
    """An array in JSON."""

    first: int
    second: str = "b"


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    """Of itself."""

    value: Annotated[int, Meta(ge=0, lt=10)]
    children: list["Tree"] = []


class Cat(msgspec.Struct, tag="cat"):
    """One of two."""

    lives: int = 9


class Dog(msgspec.Struct, tag="dog"):
    """The other."""

    name: str


class Model(pydantic.BaseModel):
    """Pydantic's."""

    count: int = pydantic.Field(ge=1, description="How many.")
    when: datetime.datetime | None = None
    tags: list[str] = []


LEAVES: Final = [
    str,
    int,
    float,
    bool,
    Any,
    None,
    decimal.Decimal,
    uuid.UUID,
    bytes,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    Literal["a", "b"],
    Literal[1, 2],
    Colour,
    Level,
    Point,
    Size,
    Pair,
    Tree,
    Cat | Dog,
    Annotated[int, Meta(ge=1, multiple_of=2)],
    Annotated[str, Meta(min_length=1, max_length=3, pattern="^[a-z]*$")],
]
KEYS: Final = [str, int, Literal["a", "1"], Colour, Level, uuid.UUID, datetime.date]

OF_PYDANTIC: Final = [Model, Annotated[int, pydantic.Field(ge=1)], Annotated[str, pydantic.Field(max_length=2)]]


def containers(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What may hold these types."""
    return st.one_of(
        kinds.map(lambda kind: list[kind]),  # type: ignore[valid-type]  # made, not written
        kinds.map(lambda kind: set[kind]),  # type: ignore[valid-type]  # made, not written
        kinds.map(lambda kind: kind | None if isinstance(kind, type) else kind),
        st.tuples(kinds, kinds).map(lambda two: tuple[two]),  # type: ignore[valid-type]  # made, not written
        st.tuples(st.sampled_from(KEYS), kinds).map(lambda two: dict[two]),  # type: ignore[valid-type,misc]  # made, not written
    )


TYPES: Final = st.recursive(st.sampled_from(LEAVES), containers, max_leaves=4)

# What lies at the edge of something: a format, a range, another type.
EDGES: Final = [
    *("", "a", "b", "abc", "abcd", "A", "a\n", "red", "cat", "1", "1.5", "1_0", " 1", "+5", ".5", "1e9", "NaN", "null"),
    *("YQ==", "YQ", "YWI=", "YQ==\n", "12345678123456781234567812345678", "12345678-1234-5678-1234-567812345678"),
    *("2024-02-29", "2023-02-29", "0000-01-01", "2024-1-1", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00"),
    *("2024-01-01t00:00:00.123456789+23:59", "2016-12-31T23:59:60Z", "9999-12-31T23:59:59.9999999Z"),
    *("2024-01-01 00:00:00Z", "2024-01-01T24:00:00Z", "0001-01-01T00:00:00+10:00", "2024-01-01T00:00:00-24:00"),
    *("10:00:00", "10:00:00Z", "23:59:60Z", "10:00", "10:00:00.5+01:00", "24:00:00", "10:00:00.1234567"),
    *("P1D", "-P1DT2H", "PT1.5S", "P1W", "P1Y", "P", "PT", "P1DT", "PT1H3S", "P99999999DT99999999H", "PT.5S", "PT1.5H"),
    *("01", "-0", "-1", "9" * 18, "9" * 30),
    *(0, 1, 2, 3, -1, 10, 3.0, 2.0, -0.0, 1.5, 1e300, 10**30, 2**63, -(2**64), True, False, None),
]
VALUES: Final = st.recursive(
    st.sampled_from(EDGES) | st.text(max_size=3) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "a", "1", "01", "red", "2024-02-29", "", "-1"]), values, max_size=2)
        | st.fixed_dictionaries({"x": values}, optional={"label": values, "y": values})
        | st.fixed_dictionaries({"width": values}, optional={"height": values})
        | st.fixed_dictionaries({"value": values}, optional={"children": st.lists(values, max_size=2)})
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["cat", "dog", 1])}, optional={"lives": values, "name": values}
        )
        | st.fixed_dictionaries({"count": values}, optional={"when": values, "tags": values})
    ),
    max_leaves=5,
)


def input_for(*kinds: Any) -> Input:
    """What a function with parameters `p0`, `p1`, … of these types takes."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(f"p{number}", keyword, annotation=kind) for number, kind in enumerate(kinds)]
    return input_of(parameters, "f", Texts("", {}))


def converts(taken: Input, value: Any) -> bool:
    """Whether the worker makes arguments of it."""
    try:
        taken.read(json.dumps(value).encode())
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", [*LEAVES, Annotated[int, pydantic.Field(ge=1)], datetime.datetime | None], ids=str)
def test_the_edges_of_every_type(kind: Any) -> None:
    """Each value at the edge of something, alone and in an array: taken at POST exactly where it is converted."""
    alone, listed = input_for(kind), input_for(list[kind])
    for edge in EDGES:
        for taken, sent in ((alone, {"p0": edge}), (listed, {"p0": [edge]})):
            # pydantic's JSON parser takes no float beyond 64 bits for an integer; JSON Schema does.
            if edge != 1e300 or kind in LEAVES:
                assert converts(taken, sent) is not bool(faults(taken.schema, sent, ["input"])), edge


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_edges_of_every_key(key: Any) -> None:
    """A key of a dict is a string in JSON: taken where it is written as the type asks for."""
    taken = input_for(dict[key, int])
    for edge in (edge for edge in EDGES if isinstance(edge, str)):
        sent = {"p0": {edge: 1}}
        assert converts(taken, sent) is not bool(faults(taken.schema, sent, ["input"])), edge


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=TYPES, value=VALUES)
def test_what_the_api_takes_the_worker_converts(kind: Any, value: Any) -> None:
    """For every type that is supported and every JSON value: taken at POST exactly where the function would get it."""
    try:
        taken = input_for(kind)
    except TypeError:
        return  # refused when it is loaded, with its reason
    sent = {"p0": value}
    wrong = faults(taken.schema, sent, ["input"])
    assert converts(taken, sent) is not bool(wrong), wrong


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(OF_PYDANTIC), value=VALUES)
def test_the_same_with_pydantic(kind: Any, value: Any) -> None:
    """Whoever converts: what is taken at POST is what the function would get."""
    taken = input_for(kind)
    sent = {"p0": value}
    # Its JSON parser takes no float beyond 64 bits for an integer; JSON Schema does.
    if "e+" not in json.dumps(sent):
        assert converts(taken, sent) is not bool(faults(taken.schema, sent, ["input"]))


@pytest.mark.parametrize("kind", [*LEAVES, *OF_PYDANTIC, list[Point] | None, dict[int, Tree]], ids=str)
def test_the_schema_is_one(kind: Any) -> None:
    """It is JSON Schema 2020-12, as the dialect that it names says."""
    schema = input_for(kind).schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (set[list[int]], "a set cannot hold"),
        (dict[float, int], "keys of a dict"),
        (dict[tuple[int, int], int], "keys of a dict"),
        (Annotated[datetime.datetime, Meta(tz=False)], "without a time zone"),
        (Annotated[float, Meta(multiple_of=0.1)], "multiple_of"),
        (Annotated[int, Meta(ge=5)] | float, "union of numbers"),
        (str | datetime.date, "more than one str-like"),
        (complex, "complex"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_said(kind: Any, reason: str) -> None:
    """It is refused when the function is loaded, by the parameter's name and with the reason."""
    with pytest.raises(TypeError, match=f"(?s)`p0`: .*{reason}"):
        input_for(kind)


def test_where_descriptions_come_from() -> None:
    """`Annotated` says more than the docstring: it stands where the parameter does."""

    def parameters(
        a: int, b: Annotated[int, "Beside it."], c: Annotated[int, Meta(description="By msgspec.")], at: Point
    ) -> None: ...

    taken = input_of(inspect.signature(parameters).parameters.values(), "f", Texts("", dict.fromkeys("abc", "By doc.")))
    properties = taken.schema["properties"]
    assert [properties[name]["description"] for name in "abc"] == ["By doc.", "Beside it.", "By msgspec."]
    assert taken.schema["$defs"]["Point"]["properties"]["label"] == {
        "type": "string",
        "description": "What is there.",
        "default": "",
    }


def test_a_constraint_of_pydantics_counts_without_a_model() -> None:
    """msgspec would pass over it in silence, and the function would get what its author excluded."""
    taken = input_for(list[Annotated[int, pydantic.Field(ge=1)]])
    assert [fault["pointer"] for fault in faults(taken.schema, {"p0": [1, 0]}, ["input"])] == ["/input/p0/1"]


def test_pydantic_gives_the_real_thing() -> None:
    """A model is a model, its constraints and descriptions are in the schema, a default is not shared."""
    taken = input_for(Model, Annotated[int, pydantic.Field(ge=1)])
    assert taken.read(b'{"p0": {"count": 2}, "p1": 1}') == {"p0": Model(count=2), "p1": 1}
    assert taken.schema["$defs"]["Model"]["properties"]["count"]["description"] == "How many."
    wrong = faults(taken.schema, {"p0": {"count": 0}, "p1": 0, "x": 1}, ["input"])
    assert {fault["pointer"] for fault in wrong} == {"/input/p0/count", "/input/p1", "/input/x"}
