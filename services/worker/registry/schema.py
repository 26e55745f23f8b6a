"""The JSON Schema (2020-12) of what pydantic converts, as narrow as JSON Schema can say it.

pydantic's own generator describes more than pydantic takes: any string for a decimal, any key for a dict of integers.
What is accepted at POST should not fail in the worker, so this one is stricter:

- a datetime has an offset, as RFC 3339 has it; no leap second, no year 0;
- a duration is days, hours, minutes and seconds, as `P1DT2H3M4.5S`;
- a decimal is a number, or a string of digits;
- the keys of a dict are strings, integers of up to 18 digits, or what is written as a string.

What JSON Schema cannot say is listed in docs/functions.md.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault
from pydantic_core import PydanticSerializationError, to_json

from services.worker.registry.docstrings import field_docs_of
from services.worker.registry.invalid import validator_of

DATE: Final = {"type": "string", "format": "date", "pattern": "^(?!0000)"}

DATE_TIME: Final = {"type": "string", "format": "date-time", "pattern": "^(?!0000|.*:60)"}

TIME: Final = {
    "type": "string",
    "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?$",
}

# No format: that one forbids fractions of a second, a sign, and allows months. pydantic counts the hours, minutes and
# seconds in 32 bits.
DURATION: Final = {
    "type": "string",
    "pattern": "^-?P(?=[0-9T])([0-9]{1,8}D)?(T(?=[0-9])([0-9]{1,6}H)?([0-9]{1,6}M)?([0-9]{1,8}(\\.[0-9]{1,9})?S)?)?$",
}

DECIMAL: Final = {"type": "string", "pattern": "^[+-]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][+-]?[0-9]{1,5})?$"}

# By `val_json_bytes` of the configuration. The last letter of base64 has bits that mean nothing, and must be 0.
BYTES: Final = {
    "base64": {
        "type": "string",
        "contentEncoding": "base64",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$",
    },
    "hex": {"type": "string", "contentEncoding": "base16", "pattern": "^([0-9A-Fa-f]{2})*$"},
    "utf8": {"type": "string"},
}

# The format `uuid4` is none that JSON Schema knows.
UUID_OF_VERSION: Final = "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-%d[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$"

INTEGER_KEY: Final = {"pattern": "^(0|-?[1-9][0-9]{0,17})$"}

BOUNDS: Final = frozenset({"ge", "gt", "le", "lt", "multiple_of"})

Describe = Callable[[Any], JsonSchemaValue]

# Keywords whose values are no schemas; and those whose values have schemas under names.
VALUES: Final = frozenset({"default", "const", "enum", "examples"})
MAPS: Final = frozenset({"properties", "patternProperties", "$defs"})

SAYABLE: Final = (str, int, float, bool, type(None))


class Plain(GenerateJsonSchema):
    """pydantic's schemas, without a title that only says a field's name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: the property says it."""
        return False

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Not at all: what has no schema in a union, or is no default in JSON, is left out."""


class Narrow(Plain):
    """The schemas of inputs. Raises a TypeError for a type of which no JSON value would be one."""

    def build_schema_type_to_method(self) -> Any:
        """What describes each type, where several are described alike."""
        methods: Any = super().build_schema_type_to_method()
        for kind, described in (("date", DATE), ("time", TIME), ("timedelta", DURATION)):
            methods[kind] = partial(_always, described)
        for kind in ("dict", "ordered-dict", "counter"):
            methods[kind] = partial(self._keyed, methods[kind])
        for kind in ("model", "dataclass", "typed-dict"):
            methods[kind] = partial(_with_field_docs, methods[kind])
        return methods

    def definitions_schema(self, schema: Any) -> JsonSchemaValue:
        """As they are; what the keys of a dict refer to is among them."""
        self._defined = {each["ref"]: each for each in schema["definitions"]}
        return super().definitions_schema(schema)

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        """With its bounds. A decimal asks for its own here."""
        if "multiple_of" in schema:
            raise TypeError("`multiple_of` of a float or a decimal: no two programs agree whether 0.3 is one of 0.1")
        return super().float_schema(schema)

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        """A number with its bounds, or digits."""
        number, *_ = super().decimal_schema(schema)["anyOf"]
        return {"anyOf": [number, dict(DECIMAL)]}

    def bytes_schema(self, schema: Any) -> JsonSchemaValue:
        """Text in the encoding that is configured where the type stands."""
        return dict(BYTES[self._config.val_json_bytes])

    def datetime_schema(self, schema: Any) -> JsonSchemaValue:
        """With an offset."""
        if schema.get("tz_constraint") == "naive":
            raise TypeError("a datetime without a time zone: JSON Schema has no format for it")
        return dict(DATE_TIME)

    def uuid_schema(self, schema: Any) -> JsonSchemaValue:
        """Of the version that is asked for."""
        version = schema.get("version")
        return {**super().uuid_schema(schema), **({"pattern": UUID_OF_VERSION % version} if version else {})}

    def literal_schema(self, schema: Any) -> JsonSchemaValue:
        """One of these values."""
        _must_be_sayable(schema["expected"])
        return super().literal_schema(schema)

    def enum_schema(self, schema: Any) -> JsonSchemaValue:
        """The value of a member."""
        _must_be_sayable([member.value for member in schema["members"]])
        return super().enum_schema(schema)

    def is_subclass_schema(self, schema: Any) -> JsonSchemaValue:
        """None."""
        raise TypeError(f"a class, as of {schema['cls']}, is no value of JSON's")

    def field_is_present(self, field: Any) -> bool:
        """Whether it is given, and not made by a dataclass itself."""
        return field.get("init") is not False and super().field_is_present(field)

    def tagged_union_schema(self, schema: Any) -> JsonSchemaValue:
        """One of several, with the tag that says which, though each may have a default for it."""
        described = super().tagged_union_schema(schema)
        tag = described.get("discriminator", {}).get("propertyName")
        return described | ({"required": [tag]} if tag else {})

    def get_default_value(self, schema: Any) -> Any:
        """What stands for a value that is missing; `NoDefault` where only a run tells."""
        default = schema.get("default", NoDefault)
        match schema.get("default_factory"):
            case partial(func=func, args=[copied]) if func is deepcopy:  # a parameter's
                default = copied
            case type() as made if made in (list, dict, set):
                default = made()
        return default

    def encode_default(self, dft: Any) -> Any:
        """The default as JSON.

        Raises:
            pydantic_core.PydanticSerializationError: JSON has no form for it; pydantic has one for infinity, which is
                null. Then there is no default in the schema.
        """
        json.loads(to_json(dft, inf_nan_mode="constants"), parse_constant=_no_constant)
        return super().encode_default(dft)

    def _keyed(self, describe: Describe, schema: Any) -> JsonSchemaValue:
        described = describe(schema)
        # A pattern that a key does not match must refuse it, not let any value pass.
        for values in described.pop("patternProperties", {}).values():
            described["additionalProperties"] = values
        described.pop("propertyNames", None)
        names = self._key(schema["keys_schema"]) if "keys_schema" in schema else {}
        return {**described, "propertyNames": names} if names else described

    def _key(self, schema: Any) -> JsonSchemaValue:
        if schema["type"] == "definition-ref":
            schema = self._defined[schema["schema_ref"]]
        match schema["type"]:
            case "any":
                return {}
            case "int" if not BOUNDS & schema.keys():
                return dict(INTEGER_KEY)
            case "enum" if schema.get("sub_type") == "int":
                return {"enum": [str(member.value) for member in schema["members"]]}
            case "enum" | "literal":
                values = [getattr(each, "value", each) for each in schema.get("members") or schema["expected"]]
                if names := [value for value in values if isinstance(value, str)]:
                    return {"enum": names}
        written = self.generate_inner(schema)
        if written.get("type") != "string" or "enum" in written or "const" in written:
            raise TypeError("keys of a dict that JSON has no form for")
        return {word: value for word, value in written.items() if word != "type"}


def drop_misfits(schema: JsonSchemaValue) -> None:
    """Take the defaults out of a schema that it does not accept: a form that sends every default is accepted."""
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            if "default" in part and not _fits(part | definitions, part["default"]):
                del part["default"]
            waiting += [below for key, below in part.items() if key not in VALUES and key not in MAPS]
            waiting += [below for key in MAPS & part.keys() for below in part[key].values()]


def _fits(schema: JsonSchemaValue, value: Any) -> bool:
    return validator_of(schema).is_valid(value)


def _no_constant(name: str) -> None:
    raise PydanticSerializationError(f"{name} is no value of JSON's")


def _always(described: JsonSchemaValue, _: Any) -> JsonSchemaValue:
    return dict(described)


def _with_field_docs(describe: Describe, schema: Any) -> JsonSchemaValue:
    described = describe(schema)
    for name, text in field_docs_of(schema.get("cls")).items():
        if name in (properties := described.get("properties", {})):
            properties[name].setdefault("description", text)
    return described


def _must_be_sayable(values: list[Any]) -> None:
    for value in values:
        if not isinstance(value, SAYABLE):
            raise TypeError(f"{value!r} is no value of JSON's")
