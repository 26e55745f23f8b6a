"""The input of a function, from its signature: one JSON Schema, by which the API and the worker validate alike.

pydantic converts an input that fits the schema. pydantic alone would accept more: `"3"` for an int, `1` for a bool, a
datetime without a time zone. So the worker validates by the schema first, too: a task may have been submitted when the
function had another signature.
"""

import copy
import dataclasses
import inspect
from collections import abc
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, get_args, get_origin

import jsonschema_rs
import msgspec
import pydantic
from pydantic.errors import (
    PydanticInvalidForJsonSchema,
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
)
from pydantic.fields import FieldInfo

from services.worker.registry.docstrings import Docs
from services.worker.registry.hints import parts_of
from services.worker.registry.invalid import InvalidInputError, against, in_words, validator_of
from services.worker.registry.schema import Narrow, drop_misfits

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

# JSON has no bytes and no infinity. It holds for all types that say nothing else themselves, as models do.
CONFIG: Final = pydantic.ConfigDict(val_json_bytes="base64", ser_json_bytes="base64", allow_inf_nan=False)

SETS: Final = (set, frozenset, abc.Set, abc.MutableSet)


class Input(msgspec.Struct, frozen=True):
    """The input of a function: its JSON Schema, and the adapter that converts JSON to keyword arguments."""

    schema: dict[str, Any]
    validator: jsonschema_rs.Validator
    adapter: pydantic.TypeAdapter[Any]

    def read(self, given: bytes) -> dict[str, Any]:
        """Convert JSON to keyword arguments.

        Raises:
            InvalidInputError: the input does not fit the signature.
            Exception: whatever a validator or a default of the author's raises.
        """
        value = msgspec.json.decode(given)
        if wrong := against(self.validator, value):
            raise InvalidInputError(wrong)
        try:
            # Not strict, whatever a model says: the schema is, and an integer may be written 3.0 there.
            arguments: dict[str, Any] = vars(self.adapter.validate_json(given, strict=False))
        except pydantic.ValidationError as error:
            raise InvalidInputError(in_words(error, value)) from error
        return arguments


def input_of(parameters: Iterable[inspect.Parameter], name: str, docs: Docs, module: str = __name__) -> Input:
    """Return the input of a function with these parameters. Names of types are looked up in `module`.

    Raises:
        TypeError: a parameter has no type, cannot be given by name, or is of a type that cannot be an input.
    """
    given = list(parameters)
    for each in given:
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise TypeError(f"`{each}` cannot be given by name")
        if each.annotation is each.empty:
            raise TypeError(f"`{each.name}` has no type")
    try:
        return _input(given, name, docs, module)
    # What an annotation is made of is its author's code: whatever looking at it raises is a reason.
    except BaseException as error:
        raise _reason(given, error, docs, module) from error


def _input(parameters: list[inspect.Parameter], name: str, docs: Docs, module: str) -> Input:
    fields = [(each.name, each.annotation, _default(each.default)) for each in parameters]
    structure = dataclasses.make_dataclass(name, fields, kw_only=True, namespace={"__pydantic_config__": CONFIG})
    structure.__module__ = module  # where names are looked up; since Python 3.12 it would be this one
    _must_fit(structure)
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(structure)
    adapter.rebuild(raise_errors=True)  # a name that is not known
    schema = {"$schema": DIALECT, "required": [], **adapter.json_schema(schema_generator=Narrow)}
    schema["additionalProperties"] = False
    drop_misfits(schema)
    for described in docs.parameters.keys() & schema["properties"].keys():
        schema["properties"][described].setdefault("description", docs.parameters[described])
    return Input(schema, validator_of(schema), adapter)


def _reason(parameters: list[inspect.Parameter], error: BaseException, docs: Docs, module: str) -> TypeError:
    """Return the error with the parameter's name and the fault, without pydantic's advice to authors of models."""
    prefix = ""
    for each in parameters:
        try:
            _input([each], each.name, docs, module)
        except BaseException as error_of_one:  # noqa: BLE001  # the author's code once more
            prefix, error = f"`{each.name}`: ", error_of_one
            break
    message = str(error).partition("\n\n")[0].partition(". Set `arbitrary_types_allowed")[0]
    if isinstance(error, PydanticSchemaGenerationError | PydanticInvalidForJsonSchema):
        message += (
            ": an input is of types that JSON has values for, plain ones, dataclasses, TypedDicts, pydantic's models"
        )
    elif not isinstance(error, TypeError | PydanticUserError | PydanticUndefinedAnnotation):
        message = f"{type(error).__name__}: {message}"
    return TypeError(prefix + message)


def _must_fit(hint: Any) -> None:
    for part in parts_of(hint):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            raise TypeError(
                f"{part.__name__} is a msgspec.Struct, which no input can be: make it a dataclass, a TypedDict or a "
                "model of pydantic's"
            )
        if isinstance(part, msgspec.Meta):
            raise TypeError("msgspec.Meta means nothing for an input: use pydantic's `Annotated[int, Field(ge=1)]`")
        if (get_origin(part) or part) in SETS and not all(map(_hashable, parts_of(*get_args(part) or [Any]))):
            raise TypeError("a set of what a set cannot hold")


def _hashable(part: Any) -> bool:
    kind = get_origin(part) or part
    return kind not in (Any, object) and (not isinstance(kind, type) or kind.__hash__ is not None)


def _default(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return dataclasses.field()
    if isinstance(default, FieldInfo):
        return default
    return dataclasses.field(default_factory=partial(copy.deepcopy, default))
