"""The schema from the signature: the worker converts the inputs that the API takes by it, and no others."""

import collections
import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import math
import re
import threading
import uuid
from collections import abc
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, NotRequired, TypeVar

import jsonschema_rs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict  # before Python 3.12, pydantic knows no other

from plugins import entries
from services.api.http import validation
from services.worker.registry.docstrings import Docs
from services.worker.registry.invalid import InvalidInputError
from services.worker.registry.signature import Input, input_of
from tests.support.processes import ROOT


class Colour(enum.Enum):
    """Of text."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Of a whole number."""

    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    """Of what there is."""

    NOTHING = None
    ONE = 1
    HALF = 0.5
    TEXT = "a"


@dataclasses.dataclass
class Point:
    """With a default."""

    x: float
    label: Annotated[str, "What is there."] = ""


class Size(TypedDict):
    """With a key that may be missing."""

    width: Annotated[int, "From left to right."]
    height: NotRequired[int]


class Pair(NamedTuple):
    """An array in JSON."""

    first: int
    second: str = "b"


class Tree(BaseModel, extra="forbid"):
    """Of itself."""

    value: Annotated[int, Field(ge=0, lt=10)]
    children: list["Tree"] = []


class Cat(BaseModel):
    """One of two."""

    type: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    """The other."""

    type: Literal["dog", 1] = "dog"
    name: str


class Model(BaseModel, strict=True):
    """As strict as can be, with a name of its own in JSON."""

    count: int = Field(ge=1, description="How many.")
    when: datetime.datetime | None = None
    tags: list[str] = Field([], alias="marks")
    raw: bytes = b""


T = TypeVar("T")


class Box(BaseModel, Generic[T], frozen=True):
    """Of anything."""

    x: T


class Buried(BaseModel):
    """Its field is deep in JSON."""

    x: int = Field(validation_alias=pydantic.AliasPath("a", 0))


@dataclasses.dataclass
class Made:
    """Makes a part of itself, and keeps another to itself."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    x: int
    twice: int = dataclasses.field(init=False, default=0)
    times: dataclasses.InitVar[int] = 2

    def __post_init__(self, times: int) -> None:
        self.twice = self.x * times


class Cup(BaseModel):
    """Its tag has another name in JSON."""

    kind: Literal["cup"] = Field("cup", validation_alias="type")


class Jar(BaseModel):
    """The same."""

    kind: Literal["jar"] = Field("jar", validation_alias="type")


JSON = TypeAliasType("JSON", "int | str | list[JSON] | dict[str, JSON] | None")

Animal = Annotated[Cat | Dog, Field(discriminator="type")]

LEAVES: Final = [
    str,
    int,
    float,
    bool,
    Any,
    None,
    decimal.Decimal,
    uuid.UUID,
    pydantic.UUID4,
    bytes,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    Literal["a", "b"],
    Literal[1, 2],
    Literal[True, None, "a"],
    Colour,
    Level,
    Mixed,
    Point,
    Size,
    Pair,
    Tree,
    Animal,
    Cat | Dog,
    Model,
    Box[int],
    Box[list[Colour]],
    Made,
    Annotated[Cup | Jar, Field(discriminator="kind")],
    JSON,
    collections.OrderedDict[int, str],
    collections.Counter[Colour],
    collections.deque[int],
    abc.Mapping[Colour, int],
    frozenset[str],
    int | str,
    int | float,
    bool | int | None,
    datetime.date | str,
    pydantic.StrictInt | datetime.timedelta,
    pydantic.AwareDatetime,
    pydantic.RootModel[list[int]],
    Annotated[int, Field(ge=1, multiple_of=2)],
    Annotated[int, Field(gt=5)] | float,
    Annotated[float, Field(gt=0, le=1.5)],
    Annotated[str, Field(min_length=1, max_length=3, pattern="^[a-z]*$")],
    Annotated[list[int], Field(min_length=1, max_length=2)],
    Annotated[dict[str, int], Field(max_length=1)],
]
KEYS: Final = [
    str,
    int,
    Any,
    Literal["a", "1"],
    Colour,
    Level,
    Mixed,
    uuid.UUID,
    datetime.date,
    Annotated[str, Field(pattern="^[a-z]$")],
]


def containers(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Types that hold these types."""
    return st.one_of(
        kinds.map(lambda kind: list[kind]),  # type: ignore[valid-type]  # made, not written
        kinds.map(lambda kind: set[kind]),  # type: ignore[valid-type]  # made, not written
        kinds.map(lambda kind: tuple[kind, ...]),  # type: ignore[valid-type]  # made, not written
        kinds.map(lambda kind: kind | None if isinstance(kind, type) else kind),
        st.tuples(kinds, kinds).map(lambda two: tuple[two]),  # type: ignore[valid-type]  # made, not written
        st.tuples(st.sampled_from(KEYS), kinds).map(lambda two: dict[two]),  # type: ignore[valid-type,misc]  # made, not written
    )


TYPES: Final = st.recursive(st.sampled_from(LEAVES), containers, max_leaves=4)

# Values at the edge of a format, a range, or another type.
EDGES: Final = [
    *("", "a", "b", "abc", "abcd", "A", "a\n", "red", "cat", "1", "1.5", "1_0", " 1", "+5", ".5", "1e9", "NaN", "null"),
    *("YQ==", "YQ", "YWI=", "YR==", "YWJ=", "+/+/", "-_-_", "YQ==\n", "12345678123456781234567812345678"),
    *("12345678-1234-5678-1234-567812345678", "12345678-1234-4678-8234-567812345678"),
    *("2024-02-29", "2023-02-29", "0000-01-01", "2024-1-1", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00"),
    *("2024-01-01t00:00:00.123456789+23:59", "2016-12-31T23:59:60Z", "9999-12-31T23:59:59.9999999Z"),
    *("2024-01-01 00:00:00Z", "2024-01-01T24:00:00Z", "0001-01-01T00:00:00+10:00", "2024-01-01T00:00:00-24:00"),
    *("10:00:00", "10:00:00Z", "23:59:60Z", "10:00", "10:00:00.5+01:00", "24:00:00", "10:00:00.1234567"),
    *("P1D", "-P1DT2H", "PT1.5S", "P1W", "P1Y", "P", "PT", "P1DT", "PT1H3S", "PT.5S", "PT1.5H", "PT9999999H"),
    *("P99999999DT999999H999999M99999999.999999999S", "P999999999D", "-P99999999DT999999H999999M99999999.9S"),
    *("01", "-0", "-1", "9" * 18, "9" * 30),
    *(0, 1, 2, 3, -1, 10, 3.0, 2.0, -0.0, 1.5, 1e300, 1e19, 9e18, 10**30, 2**63, -(2**64), 10**400, True, False, None),
    *([], {}, [1], {"x": 1}, {"type": "cat"}, {"type": 1.0, "name": ""}, {"type": True, "name": ""}),
]
ANY: Final = st.recursive(
    st.sampled_from(EDGES) | st.text(max_size=3) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=2), values, max_size=2),
    max_leaves=4,
)

# Of what has a form: much of it fits, some of it just not.
FORMS: Final = {
    "date": st.dates().map(str),
    "date-time": st.datetimes(timezones=st.timezones()).map(datetime.datetime.isoformat),
    "uuid": st.uuids().map(str),
}


def fitting(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values for a schema. Now and then there is something else in the place of one."""
    return st.integers(0, 19).flatmap(lambda dice: st.deferred(lambda: _fitting(schema, root)) if dice else ANY)


def _fitting(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    match schema:
        case {"$ref": ref}:
            return fitting(root["$defs"][ref.removeprefix("#/$defs/")], root)
        case {"const": value}:
            return st.just(value)
        case {"enum": values}:
            return st.sampled_from(values)
        case {"anyOf": each} | {"oneOf": each}:
            return st.one_of([fitting(one, root) for one in each])
        case {"format": form} if form in FORMS:
            return FORMS[form]
        case {"pattern": pattern}:
            return st.from_regex(pattern)
        case {"type": "string"}:
            return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))
        case {"type": "object"}:
            return _objects(schema, root)
        case {"type": "array", "prefixItems": items}:
            items = [fitting(each, root) for each in items]
            return st.integers(schema.get("minItems", 0), len(items)).flatmap(lambda size: st.tuples(*items[:size]))
        case {"type": "array"}:
            return st.lists(fitting(schema.get("items", {}), root), min_size=schema.get("minItems", 0), max_size=3)
        case {"type": "integer" | "number" as kind}:
            least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
            whole = st.integers(least, most and int(most)).map(lambda value: value * schema.get("multipleOf", 1))
            return whole | st.floats(least, most, allow_nan=False, allow_infinity=False) if kind == "number" else whole
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "null"}:
            return st.none()
    return ANY


def _objects(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" in schema:
        properties = {name: fitting(each, root) for name, each in schema["properties"].items()}
        required = {name: properties.pop(name) for name in schema.get("required", [])}
        return st.fixed_dictionaries(required, optional=properties)
    names = _fitting({"type": "string", **schema["propertyNames"]}, root) if "propertyNames" in schema else st.text()
    values = schema.get("additionalProperties", True)
    return st.dictionaries(names, ANY if values is True else fitting(values, root), max_size=2)


# Inputs that POST takes, though the worker refuses them: docs/functions.md lists the same.
EXCEPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "a whole number beyond 64 bits that is written as a float (`1e19`), for an `int`": (int, 1e19),
    "a whole number beyond every float, for a `float`": (float, 10**400),
    "a check that is a program: a validator, `__post_init__`, a callable `Discriminator`, `HttpUrl`, `Json`": (
        Annotated[int, pydantic.AfterValidator(math.sqrt)],
        -1,
    ),
    "a schema that `WithJsonSchema` or `json_schema_extra` replaces": (
        Annotated[int, pydantic.WithJsonSchema({"type": "string"})],
        "one",
    ),
    "a change before the check, as by `strip_whitespace`": (
        Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)],
        " ",
    ),
    "a bound of a date, a time or a duration, a length of `bytes`": (Annotated[bytes, Field(min_length=2)], "YQ=="),
    "a bound of a `Decimal` that is written as a string, and its number of digits": (
        Annotated[decimal.Decimal, Field(ge=1)],
        "0.5",
    ),
    "a pattern with `\\W`, `\\D`, `\\S` or `\\b`, beyond ASCII": (Annotated[str, Field(pattern=r"^\W$")], "é"),
    "a least length of a set, or of a dict, whose values or keys differ only in how they are written": (
        Annotated[set[decimal.Decimal], Field(min_length=2)],
        ["1", "1.0"],
    ),
    "a field that is found by an `AliasPath`": (Buried, {"x": 1}),
}


def input_for(*kinds: Any) -> Input:
    """The input of a function with parameters `p0`, `p1`, … of these types."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(f"p{number}", keyword, annotation=kind) for number, kind in enumerate(kinds)]
    return input_of(parameters, "f", Docs("", {}))


def refusal(taken: Input, value: Any) -> str | None:
    """Why the worker makes no arguments of it; None where it does."""
    try:
        taken.read(json.dumps(value).encode())
    except InvalidInputError as error:
        return str(error)
    return None


def beyond(value: Any) -> bool:
    """Whether a number in it is one of the exceptions."""
    match value:
        case int() | float():
            return abs(value) > (1e18 if isinstance(value, float) else 1e308)
        case list() | tuple():
            return any(map(beyond, value))
        case dict():
            return any(map(beyond, value.values()))
    return False


@pytest.mark.parametrize("kind", LEAVES, ids=str)
def test_the_edges_of_every_type(kind: Any) -> None:
    """Each value at the edge of something, alone and in an array: taken at POST exactly where it is converted."""
    alone, listed = input_for(kind), input_for(list[kind])
    for edge in EDGES:
        for taken, sent in ((alone, {"p0": edge}), (listed, {"p0": [edge]})):
            if not validation.errors(taken.schema, sent, ["input"]).told and not beyond(edge):
                assert refusal(taken, sent) is None, edge


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_edges_of_every_key(key: Any) -> None:
    """A key of a dict is a string in JSON: taken where it is written as the type asks for."""
    taken = input_for(dict[key, int])
    for edge in (edge for edge in EDGES if isinstance(edge, str)):
        sent = {"p0": {edge: 1}}
        assert (refusal(taken, sent) is None) is not bool(validation.errors(taken.schema, sent, ["input"]).told), edge


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), kind=TYPES)
def test_what_the_api_takes_the_worker_converts(data: st.DataObject, kind: Any) -> None:
    """For every supported type, values that fit and values that just do not: the function gets the inputs that POST
    takes, and no others, but for the exceptions.
    """
    try:
        taken = input_for(kind)
    except TypeError:
        return  # refused when it is loaded, with its reason
    sent = {"p0": data.draw(fitting(taken.schema["properties"]["p0"], taken.schema))}
    wrong, why = validation.errors(taken.schema, sent, ["input"]).told, refusal(taken, sent)
    assert bool(wrong) is bool(why) or (not wrong and beyond(sent)), why


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=TYPES, value=ANY)
def test_the_same_for_any_json(kind: Any, value: Any) -> None:
    """Whatever is sent for whatever type."""
    try:
        taken = input_for(kind)
    except TypeError:
        return  # refused when it is loaded, with its reason
    sent = {"p0": value}
    wrong, why = validation.errors(taken.schema, sent, ["input"]).told, refusal(taken, sent)
    assert bool(wrong) is bool(why) or (not wrong and beyond(sent)), why


@pytest.mark.parametrize(("kind", "value"), EXCEPTIONS.values(), ids=EXCEPTIONS)
def test_the_exceptions(kind: Any, value: Any) -> None:
    """JSON Schema cannot say it: it is taken at POST, and the worker says what is wrong, and where."""
    taken = input_for(kind)
    assert validation.errors(taken.schema, {"p0": value}, ["input"]).told == []
    why = refusal(taken, {"p0": value})
    assert why is not None
    assert re.match(r"/p0(/\S+)?: \S", why)


def test_the_guide_lists_the_exceptions() -> None:
    """An author finds all of them there, and no other."""
    guide = (ROOT / "docs" / "functions.md").read_text()
    listed = guide.partition("`failed: invalid_input`. These are the cases:\n\n")[2].partition("\n\n")[0]
    assert {" ".join(each.split()) for each in re.split(r"^- ", listed, flags=re.MULTILINE) if each} == set(EXCEPTIONS)


@pytest.mark.parametrize("kind", [*LEAVES, list[Point] | None, dict[int, Tree]], ids=str)
def test_the_schema_is_one(kind: Any) -> None:
    """It is JSON Schema 2020-12, as the dialect that it names says, and refers to itself alone."""
    schema = input_for(kind).schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)
    assert set(re.findall(r'"\$ref": "(.)', json.dumps(schema))) <= {"#"}
    assert schema["additionalProperties"] is False


class Struct(msgspec.Struct):
    """No input."""

    x: int


@dataclasses.dataclass
class Deep:
    """Holds something that is no input."""

    inner: list[Struct | None]


class Ends(str):
    """Would end the worker that looks at it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        """Ends it."""
        raise SystemExit(3)


class Odd(enum.Enum):
    """Of what JSON does not have."""

    PAIR = (1, 2)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Struct, "Struct is a msgspec.Struct, .*: make it a dataclass, a TypedDict or a model of pydantic's"),
        (Deep, "Struct is a msgspec.Struct"),
        (list[Annotated[int, msgspec.Meta(ge=1)]], r"use pydantic's `Annotated\[int, Field\(ge=1\)\]`"),
        (list["Annotated[int, msgspec.Meta(ge=1)]"], "msgspec.Meta"),
        (set[list[int]], "a set cannot hold"),
        (set[tuple[JSON, ...]], "a set cannot hold"),
        (frozenset[Any], "a set cannot hold"),
        (set, "a set cannot hold"),
        (set[tuple[Point, ...]], "a set cannot hold"),
        (set[Box[list[int]]], "a set cannot hold"),
        (dict[float, int], "keys of a dict"),
        (dict[tuple[int, int], int], "keys of a dict"),
        (dict[Literal[1, 2], int], "keys of a dict"),
        (pydantic.NaiveDatetime, "without a time zone"),
        (Annotated[float, Field(multiple_of=0.1)], "multiple_of"),
        (Annotated[str, Field(pattern="(")], "regex parse error"),
        (Odd, "is no value of JSON's"),
        (Literal[b"a"], "is no value of JSON's"),
        (Literal[Colour.RED], "is no value of JSON's"),  # pydantic takes none for a member of an Enum of Python's own
        (type[int], "is no value of JSON's"),
        (
            threading.Event,
            "Unable to generate pydantic-core schema for <class 'threading.Event'>: an input is of types that JSON",
        ),
        (
            abc.Callable[[], int],
            "Cannot generate a JsonSchema for core_schema.CallableSchema: an input is of types that JSON",
        ),
        (list["Nowhere"], "name 'Nowhere' is not defined$"),  # type: ignore[name-defined]  # noqa: F821  # what it tests
        (Ends, "SystemExit: 3"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_said(kind: Any, reason: str) -> None:
    """It is refused when the function is loaded, by the parameter's name and with the reason."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, annotation=each) for name, each in (("a", int), ("b", kind))]
    with pytest.raises(TypeError, match=f"(?s)^`b`: .*{reason}") as refused:
        input_of(parameters, "f", Docs("", {}), __name__)
    assert "errors.pydantic.dev" not in str(refused.value)


def test_where_descriptions_come_from() -> None:
    """`Annotated` says more than the docstring: it stands where the parameter does."""

    def parameters(
        a: int,
        b: Annotated[int, "Beside it."],
        c: Annotated[int, Field(description="By pydantic.")],
        at: Point,
        of: Size,
    ) -> None: ...

    taken = input_of(inspect.signature(parameters).parameters.values(), "f", Docs("", dict.fromkeys("abc", "By doc.")))
    properties, defined = taken.schema["properties"], taken.schema["$defs"]
    assert [properties[name]["description"] for name in "abc"] == ["By doc.", "Beside it.", "By pydantic."]
    label = {"type": "string", "description": "What is there.", "default": ""}
    assert defined["Point"]["properties"]["label"] == label
    assert defined["Size"]["properties"]["width"]["description"] == "From left to right."


def test_a_default_that_does_not_fit_is_not_shown() -> None:
    """A form that sends every default that it is shown is accepted; the function still gets its own."""

    @dataclasses.dataclass
    class Inner:
        bounded: Annotated[int, Field(ge=1)] = 0
        fits: Annotated[int, Field(ge=1)] = 1

    def takes(
        inner: Inner,
        infinite: float = math.inf,
        nothing: int = None,  # type: ignore[assignment]  # noqa: RUF013  # as authors write it
        infinite_or_none: float | None = -math.inf,
        hidden: list[float | None] = [math.nan],  # noqa: B006  # as authors write it
        named: dict[str, float | None] = {"x": math.inf},  # noqa: B006  # the same
        bounded: Annotated[int, Field(le=3)] = 4,
        dated: datetime.datetime = datetime.datetime(2026, 1, 1),  # inputs have an offset
        default: int = 7,
        none: int | None = None,
    ) -> None: ...

    taken = input_of(inspect.signature(takes).parameters.values(), "takes", Docs("", {}))
    shown = {name: each["default"] for name, each in taken.schema["properties"].items() if "default" in each}
    assert shown == {"default": 7, "none": None}
    inner = taken.schema["$defs"]["Inner"]["properties"]
    assert {name: each["default"] for name, each in inner.items() if "default" in each} == {"fits": 1}
    arguments = taken.read(msgspec.json.encode({"inner": {"fits": 1}, **shown}))
    assert (arguments["infinite"], arguments["nothing"], arguments["inner"]) == (math.inf, None, Inner(0, 1))


def test_the_defaults_that_are_shown() -> None:
    """Those that JSON can say, as JSON has them; never what only a run would tell."""

    @dataclasses.dataclass
    class Made:
        at: list[int] = dataclasses.field(default_factory=list)
        now: str = dataclasses.field(default_factory=lambda: "now")

    def parameters(
        f: Annotated[int, Field(default=6)],
        a: bytes = b"a",
        b: Colour = Colour.RED,
        c: list[int] = [1],  # noqa: B006  # a parameter's default, which is copied
        d: float = math.inf,
        e: int = Field(5, ge=1),
        g: Made | None = None,
        h: Any = object(),  # noqa: B008  # nothing in JSON
        i: datetime.timedelta = datetime.timedelta(days=1),
    ) -> None: ...

    taken = input_of(inspect.signature(parameters).parameters.values(), "f", Docs("", {}))
    shown = {name: each["default"] for name, each in taken.schema["properties"].items() if "default" in each}
    assert shown == {"a": "YQ==", "b": "red", "c": [1], "e": 5, "f": 6, "g": None, "i": "P1D"}
    assert taken.schema["required"] == []
    made = taken.schema["$defs"]["Made"]["properties"]
    assert (made["at"]["default"], "default" in made["now"]) == ([], False)
    assert taken.read(b"{}")["d"] == math.inf


def test_pydantic_gives_the_real_thing() -> None:
    """A model is a model, its constraints and descriptions are in the schema, a default is not shared."""
    taken = input_for(Model, Annotated[int, Field(ge=1)])
    assert taken.read(b'{"p0": {"count": 2.0, "marks": ["a"]}, "p1": 1}') == {
        "p0": Model(count=2, marks=["a"]),
        "p1": 1,
    }
    assert taken.schema["$defs"]["Model"]["properties"]["count"]["description"] == "How many."
    wrong = validation.errors(taken.schema, {"p0": {"count": 0}, "p1": 0, "x": 1}, ["input"]).told
    assert {fault["pointer"] for fault in wrong} == {"/input/p0/count", "/input/p1", "/input/x"}


def test_bytes_are_base64_wherever_nothing_else_is_said() -> None:
    """In a parameter and in what has no configuration of its own; a model says itself."""

    @dataclasses.dataclass
    class Held:
        raw: bytes

    taken = input_for(bytes, list[Held], Model)
    got = taken.read(b'{"p0": "YQ==", "p1": [{"raw": "YQ=="}], "p2": {"count": 1, "raw": "YQ=="}}')
    assert (got["p0"], got["p1"][0].raw, got["p2"].raw) == (b"a", b"a", b"YQ==")


def test_an_input_as_deep_as_any() -> None:
    """A type that holds itself is converted as deep as the api lets an input be."""
    tree: dict[str, Any] = {"value": 1}
    for _ in range((entries.MAX_DEPTH - 2) // 2):
        tree = {"value": 1, "children": [tree]}
    taken = input_for(Tree)
    assert validation.errors(taken.schema, {"p0": tree}, ["input"]).told == []
    assert refusal(taken, {"p0": tree}) is None


class Checked(BaseModel):
    """With checks of its author's own."""

    low: int
    high: int
    also: int | list[int] = 0

    @pydantic.model_validator(mode="after")
    def ordered(self) -> "Checked":
        """Low is not above high."""
        if self.low > self.high:
            raise ValueError("low is above high, " * 1_000)
        return self

    @pydantic.field_validator("also", mode="before")
    @classmethod
    def another(cls, value: Any) -> Any:
        """Asks a model, divides, or gives up."""
        if value == 1:
            Model.model_validate({"count": 0})
        return 1 // (value - 3) if isinstance(value, int) else value

    @pydantic.field_validator("also")
    @classmethod
    def even(cls, value: Any) -> Any:
        """Of a list, too."""
        assert value != [7], "seven is odd"
        return value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"low": 2, "high": 1}, "^/p0/a~1b/1: Value error, low is above high, [a-z ,]{400,500}$"),
        ({"low": 1, "high": 2, "also": [7]}, "^/p0/a~1b/1/also: Assertion failed, seven is odd[^;]*$"),
        ({"low": 1, "high": 2, "also": 1}, "^/p0/a~1b/1/also: Input should be greater than or equal to 1$"),
        ({"low": "1"}, r'^/p0/a~1b/1: "high" is a required property; /p0/a~1b/1/low: "1" is not of type "integer"$'),
    ],
    ids=str,
)
def test_what_is_said_of_a_fault(given: dict[str, Any], said: str) -> None:
    """The place in the input as a pointer, and what is wrong, in a few words and without an address of pydantic's."""
    good = {"low": 1, "high": 2}
    why = refusal(input_for(dict[str, list[Checked]]), {"p0": {"a/b": [good, given]}})
    assert why is not None
    assert re.search(said, why), why
    why = refusal(input_for(list[Checked | int]), {"p0": [{**good, "also": [7]}]})
    assert why is not None
    assert why.startswith("/p0/0/also: Assertion failed, seven is odd")  # though pydantic says it is in `Checked`


def test_many_faults_are_not_all_said() -> None:
    """Ten are enough: each may repeat what was sent."""
    for kind, wrong in ((int, "x" * 1_000), (Checked, {"low": 2, "high": 1})):
        why = refusal(input_for(list[kind]), {"p0": [wrong] * 100})  # type: ignore[valid-type]  # made, not written
        assert why is not None
        assert why.count("/p0/") == 10
        assert len(why) < 6_000


def test_where_something_is_missing() -> None:
    """The place is where it would be, though the value has none there."""
    assert refusal(input_for(list[Buried]), {"p0": [{"x": 1}]}) == "/p0/0/a/0: Field required"


def test_what_a_dataclass_makes_is_no_input() -> None:
    """A field that the class fills itself is no input; a parameter of the class that is no field is one."""
    made = input_for(Made).schema["$defs"]["Made"]
    assert (set(made["properties"]), made["required"]) == ({"x", "times"}, ["x"])


def test_a_validator_that_breaks_is_no_invalid_input() -> None:
    """It is the author's: whatever it raises fails the task as the function itself would."""
    with pytest.raises(ZeroDivisionError):
        input_for(Checked).read(b'{"p0": {"low": 1, "high": 2, "also": 3}}')
