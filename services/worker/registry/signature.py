"""The input of a function, from its signature: one JSON Schema, by which the api and the worker judge alike.

What fits the schema is converted, and nothing else is. The conversion alone would take more: `1_0` for a decimal, a
datetime without a time zone. So whatever was converted must fit the schema, too.
"""

import copy
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import jsonschema_rs
import msgspec
from msgspec import inspect as mi

from services.worker.registry import pydantic_schema
from services.worker.registry.docstrings import Texts, annotated
from services.worker.registry.msgspec_schema import Schemas, with_default

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Read = Callable[[bytes], dict[str, Any]]


class Input(msgspec.Struct, frozen=True):
    """What a function takes: its JSON Schema, and how JSON becomes keyword arguments."""

    schema: dict[str, Any]
    convert: Read
    validator: Any

    def read(self, given: bytes) -> dict[str, Any]:
        """Keyword arguments from JSON.

        Raises:
            msgspec.ValidationError: it is not what the signature asks for.
        """
        arguments = self.convert(given)
        for error in self.validator.iter_errors(msgspec.json.decode(given)):
            raise msgspec.ValidationError(f"{error.message} - at `{'.'.join(map(str, ('$', *error.instance_path)))}`")
        return arguments


def input_of(parameters: Iterable[inspect.Parameter], name: str, texts: Texts) -> Input:
    """What a function with these parameters takes.

    Raises:
        TypeError: a parameter has no type, cannot be given by name, or is of a type that is not supported.
    """
    given = list(parameters)
    for each in given:
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise TypeError(f"`{each}` cannot be given by name")
        if each.annotation is each.empty:
            raise TypeError(f"`{each.name}` has no type")
    schema, convert = (pydantic_schema.read_with if pydantic_schema.concerns(given) else _by_msgspec)(given, name)
    for each in given:
        _describe(schema["properties"], each, texts)
    schema = {"$schema": DIALECT, **schema}
    return Input(schema, convert, jsonschema_rs.validator_for(schema, validate_formats=True))


def _describe(properties: dict[str, Any], parameter: inspect.Parameter, texts: Texts) -> None:
    described = properties.get(parameter.name)
    if described is None:  # pydantic may call it otherwise
        return
    if text := annotated(parameter.annotation) or described.get("description") or texts.parameters.get(parameter.name):
        described["description"] = text
    if parameter.default is not parameter.empty and "default" not in described:
        properties[parameter.name] = with_default(described, parameter.default)


def _by_msgspec(parameters: list[inspect.Parameter], name: str) -> tuple[dict[str, Any], Read]:
    schemas = Schemas()
    properties = {each.name: _property(schemas, each) for each in parameters}
    schema: dict[str, Any] = {
        "title": name,
        "type": "object",
        "properties": properties,
        "required": [each.name for each in parameters if each.default is each.empty],
        "additionalProperties": False,
    }
    if schemas.definitions:
        schema["$defs"] = schemas.definitions
    structure = msgspec.defstruct(name, [_field(each) for each in parameters], kw_only=True, forbid_unknown_fields=True)

    def read(given: bytes) -> dict[str, Any]:
        value = msgspec.json.decode(given)
        try:
            converted = msgspec.convert(value, structure, str_keys=True)
        except msgspec.ValidationError:
            # 3.0 is an integer for JSON Schema, so it is one for a function, too.
            converted = msgspec.convert(_whole(value), structure, str_keys=True)
        return {field: getattr(converted, field) for field in structure.__struct_fields__}

    return schema, read


def _property(schemas: Schemas, parameter: inspect.Parameter) -> dict[str, Any]:
    try:
        return schemas.of(mi.type_info(parameter.annotation))
    # What an annotation is made of is its author's code: whatever looking at it raises is a reason.
    except Exception as error:
        raise TypeError(f"`{parameter.name}`: {error}") from error


def _field(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return parameter.name, parameter.annotation
    default = msgspec.field(default_factory=partial(copy.deepcopy, parameter.default))
    return parameter.name, parameter.annotation, default


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_whole(each) for each in value]
        case dict():
            return {key: _whole(each) for key, each in value.items()}
        case _:
            return value
