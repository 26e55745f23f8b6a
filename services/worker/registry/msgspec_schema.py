"""The JSON Schema (2020-12) of what msgspec converts, never wider than what it takes.

msgspec has a generator of its own. That one describes more than msgspec accepts: any string for a datetime, any object
for a dict with integer keys. What would be accepted at POST must not fail in the worker, so this one is stricter:

- a datetime has an offset, as RFC 3339 has it; no leap second, no year 0;
- a duration is days, hours, minutes and seconds, as `P1DT2H3M4.5S`;
- a decimal is a number, or a string of digits;
- the keys of a dict are strings, integers of up to 18 digits, or what is written as a string.

What JSON Schema cannot say: the checks of an author's own (`__post_init__`); a pattern means what ECMA 262 says, which
takes fewer letters and digits than Python; an integer beyond every float does not fit a `float`, though it is a number.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import inspect as mi

from services.worker.registry.docstrings import annotated

DATE: Final = {"type": "string", "format": "date", "pattern": "^(?!0000)"}

# The last moment of the year 9999 would be rounded up.
DATE_TIME: Final = {"type": "string", "format": "date-time", "pattern": "^(?!0000|.*:60|9999-12-31.23:59:59\\.9)"}

# No format: that one forbids fractions of a second, a sign, and allows months.
DURATION: Final = {
    "type": "string",
    "pattern": "^-?P(?=[0-9T])([0-9]{1,8}D)?(T(?=[0-9])([0-9]{1,8}H)?([0-9]{1,8}M)?([0-9]{1,8}(\\.[0-9]{1,9})?S)?)?$",
}

DECIMAL: Final = {
    "type": ["number", "string"],
    "pattern": "^[+-]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][+-]?[0-9]{1,5})?$",
}

BASE64: Final = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}

UUID: Final = {"type": "string", "format": "uuid"}

OFFSET: Final = "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"

# By whether it has a time zone; None where it may.
TIMES: Final = {
    tz: {
        "type": "string",
        "pattern": f"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{{1,6}})?{offset}$",
    }
    for tz, offset in ((True, OFFSET), (False, ""), (None, OFFSET + "?"))
}

INTEGER_KEY: Final = {"pattern": "^(0|-?[1-9][0-9]{0,17})$"}

# How the schema calls what msgspec calls otherwise.
WORDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}

NUMBERS: Final = (mi.IntType, mi.FloatType, mi.DecimalType)


class Schemas:
    """The schemas of types that refer to the same `definitions`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._names: dict[Any, str] = {}

    def of(self, kind: mi.Type) -> dict[str, Any]:
        """The schema of a type.

        Raises:
            TypeError: no schema says what msgspec takes for it.
        """
        match kind:
            case mi.Metadata():
                return {**self.of(kind.type), **(kind.extra_json_schema or {})}
            case mi.AnyType():
                return {}
            case mi.NoneType():
                return {"type": "null"}
            case mi.BoolType():
                return {"type": "boolean"}
            case mi.IntType():
                return {"type": "integer", **_bounds(kind)}
            case mi.FloatType() if kind.multiple_of is not None:
                raise TypeError("`multiple_of` of a float: no two programs agree whether 0.3 is one of 0.1")
            case mi.FloatType():
                return {"type": "number", **_bounds(kind)}
            case mi.StrType():
                return {"type": "string", **_bounds(kind), **_lengths(kind, "Length")}
            case mi.DateTimeType() if kind.tz is False:
                raise TypeError("a datetime without a time zone: JSON Schema has no format for it")
            case mi.BytesType() | mi.ByteArrayType() if _lengths(kind, ""):
                raise TypeError("a length of bytes: JSON Schema cannot say it")
            case mi.LiteralType():
                return {"enum": list(kind.values)}
            case mi.UnionType():
                return self._union(kind)
            case mi.TupleType():
                return _tuple([self.of(each) for each in kind.item_types])
            case mi.CollectionType():
                return self._collection(kind)
            case mi.DictType():
                return self._dict(kind)
            case mi.EnumType() | mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
                return {"$ref": f"#/$defs/{self._defined(kind)}"}
            case _:
                return _plain(kind)

    def _union(self, union: mi.UnionType) -> dict[str, Any]:
        bare = [_bare(each) for each in union.types]
        numbers = [each for each in bare if isinstance(each, NUMBERS) or _holds_integers(each)]
        if len(numbers) > 1 and any(_holds_integers(each) or _bounds(each) for each in numbers):
            raise TypeError("a union of numbers of which one is not any number: it could be taken for the other")
        return {"anyOf": [self.of(each) for each in union.types]}

    def _collection(self, kind: mi.CollectionType) -> dict[str, Any]:
        schema = {"type": "array", **_lengths(kind, "Items")}
        if items := self.of(kind.item_type):
            schema["items"] = items
        if isinstance(kind, mi.SetType | mi.FrozenSetType):
            if not _hashable(kind.item_type):
                raise TypeError("a set of what a set cannot hold")
            schema["uniqueItems"] = True
        return schema

    def _dict(self, kind: mi.DictType) -> dict[str, Any]:
        schema = {"type": "object", **_lengths(kind, "Properties")}
        if names := self._key(_bare(kind.key_type)):
            schema["propertyNames"] = names
        if values := self.of(kind.value_type):
            schema["additionalProperties"] = values
        return schema

    def _key(self, kind: mi.Type) -> dict[str, Any]:
        match kind:
            case mi.AnyType():
                return {}
            case mi.IntType() if not _bounds(kind):
                return INTEGER_KEY
            case mi.LiteralType() if all(type(value) in (str, int) for value in kind.values):
                return {"enum": [str(value) for value in kind.values]}
            case mi.EnumType():
                return {"enum": [str(member.value) for member in kind.cls]}
            case mi.StrType() | mi.UUIDType() | mi.DateType() | mi.DateTimeType():
                return {word: value for word, value in self.of(kind).items() if word != "type"}
            case _:
                raise TypeError("keys of a dict that JSON has no form for")

    def _defined(self, kind: Any) -> str:
        if kind.cls not in self._names:
            name = self._names[kind.cls] = self._free_name(kind.cls)
            self.definitions[name] = {}  # it may refer to itself
            self.definitions[name] = self._definition(kind, name)
        return self._names[kind.cls]

    def _free_name(self, cls: Any) -> str:
        called = getattr(cls, "__name__", "") if isinstance(cls, type) else str(cls).rpartition(".")[2]
        names = (called, f"{getattr(cls, '__module__', '')}.{getattr(cls, '__qualname__', called)}")
        for name in (re.sub(r"[^A-Za-z0-9._-]", "_", each) for each in names):
            if name not in self.definitions:
                return name
        raise TypeError(f"two types are called {cls}")

    def _definition(self, kind: Any, name: str) -> dict[str, Any]:
        if isinstance(kind, mi.EnumType):
            return {"title": name, "enum": [member.value for member in kind.cls]}
        hints = get_type_hints(getattr(kind.cls, "__origin__", kind.cls), include_extras=True)
        fields = [(field, self._field(field, annotated(hints.get(field.name)))) for field in kind.fields]
        if isinstance(kind, mi.NamedTupleType) or (isinstance(kind, mi.StructType) and kind.array_like):
            return {"title": name, **_array(kind, fields)}
        return {"title": name, **_object(kind, fields)}

    def _field(self, field: mi.Field, text: str | None) -> dict[str, Any]:
        schema = self.of(field.type)
        if text:
            schema["description"] = text
        default = field.default
        if field.default_factory in (list, dict, set):
            default = field.default_factory()
        return schema if default is msgspec.NODEFAULT else with_default(schema, default)


def with_default(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    """The schema with this default, where JSON can say it."""
    try:
        return {**schema, "default": msgspec.to_builtins(default, str_keys=True)}
    except (TypeError, ValueError):
        return schema


def _plain(kind: mi.Type) -> dict[str, Any]:
    match kind:
        case mi.BytesType() | mi.ByteArrayType():
            return dict(BASE64)
        case mi.DateTimeType():
            return dict(DATE_TIME)
        case mi.DateType():
            return dict(DATE)
        case mi.TimeType():
            return dict(TIMES[kind.tz])
        case mi.TimeDeltaType():
            return dict(DURATION)
        case mi.UUIDType():
            return dict(UUID)
        case mi.DecimalType():
            return dict(DECIMAL)
        case _:
            raise TypeError(f"{getattr(kind, 'cls', type(kind).__name__)} is not supported")


def _array(kind: Any, fields: list[tuple[mi.Field, dict[str, Any]]]) -> dict[str, Any]:
    items = [schema for _, schema in fields]
    least = max((place for place, (field, _) in enumerate(fields, 1) if field.required), default=0)
    if tag := _tag(kind):
        items, least = [tag, *items], least + 1
    if isinstance(kind, mi.NamedTupleType) or kind.forbid_unknown_fields:
        return {**_tuple(items), "minItems": least}
    return {"type": "array", "prefixItems": items, "minItems": least}


def _object(kind: Any, fields: list[tuple[mi.Field, dict[str, Any]]]) -> dict[str, Any]:
    properties = {field.encode_name: schema for field, schema in fields}
    required = [field.encode_name for field, _ in fields if field.required]
    if tag := _tag(kind):
        properties, required = {kind.tag_field: tag, **properties}, [kind.tag_field, *required]
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if isinstance(kind, mi.StructType) and kind.forbid_unknown_fields:
        schema["additionalProperties"] = False
    return schema


def _tag(kind: Any) -> dict[str, Any] | None:
    return {"const": kind.tag} if isinstance(kind, mi.StructType) and kind.tag_field is not None else None


def _tuple(items: list[dict[str, Any]]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "minItems": len(items), "maxItems": len(items)}
    return {**schema, "prefixItems": items} if items else schema


def _bounds(kind: mi.Type) -> dict[str, Any]:
    return {word: value for name, word in WORDS.items() if (value := getattr(kind, name, None)) is not None}


def _lengths(kind: mi.Type, of: str) -> dict[str, Any]:
    words = (("min_length", f"min{of}"), ("max_length", f"max{of}"))
    return {word: value for name, word in words if (value := getattr(kind, name, None)) is not None}


def _bare(kind: mi.Type) -> mi.Type:
    return _bare(kind.type) if isinstance(kind, mi.Metadata) else kind


def _holds_integers(kind: mi.Type) -> bool:
    values: Iterable[Any] = ()
    if isinstance(kind, mi.LiteralType):
        values = kind.values
    elif isinstance(kind, mi.EnumType):
        values = [member.value for member in kind.cls]
    return any(type(value) is int for value in values)


def _hashable(kind: mi.Type) -> bool:
    match _bare(kind):
        case mi.AnyType() | mi.ListType() | mi.SetType() | mi.DictType() | mi.TypedDictType() | mi.ByteArrayType():
            return False
        case mi.VarTupleType(item_type=item) | mi.FrozenSetType(item_type=item):
            return _hashable(item)
        case mi.TupleType(item_types=kinds) | mi.UnionType(types=kinds):
            return all(_hashable(each) for each in kinds)
        case mi.StructType(cls=cls) | mi.DataclassType(cls=cls) if cls.__hash__ is None:
            return False
        case mi.StructType(fields=fields) | mi.DataclassType(fields=fields) | mi.NamedTupleType(fields=fields):
            return all(_hashable(field.type) for field in fields)
        case _:
            return True
