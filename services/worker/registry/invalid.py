"""The faults of an input that POST accepted and the worker refuses, each with a JSON pointer (RFC 6901)."""

import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import pydantic
from pydantic_core import ErrorDetails

from plugins import entries

# How many faults are told, and how many characters of each: a fault may repeat the value, and every reader gets it.
MAX_FAULTS: Final = 10
MAX_FAULT: Final = 500

# Values of an input of which all faults are collected: of one with thousands, that takes the event loop half a second.
# Of a larger one, the first is told.
MAX_VALUES: Final = 256


class InvalidInputError(Exception):
    """An input does not fit the signature. The message has a pointer and the fault for each place."""


def validator_of(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """Return the validator of a schema. Nothing outside of the schema is read for it.

    Raises:
        ValueError: the schema is none, or refers to what is not in it.
    """
    return jsonschema_rs.validator_for(schema, validate_formats=True, retriever=_read_nothing)


def _read_nothing(uri: str) -> Any:
    """Stand for jsonschema-rs' own retriever, which requests `http:` and reads `file:` references."""
    raise ValueError(f"a schema may refer to its own definitions only, and not to {uri}")


def against(validator: jsonschema_rs.Validator, value: Any) -> str:
    """Return the faults of a value by its schema; empty if it fits."""
    if validator.is_valid(value):
        return ""
    if entries.has_more_values(value, MAX_VALUES):
        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return _fault(error.instance_path, error.message)
    errors = islice(validator.iter_errors(value), MAX_FAULTS)
    return "; ".join(_fault(error.instance_path, error.message) for error in errors)


def in_words(error: pydantic.ValidationError, value: Any) -> str:
    """Return the faults that pydantic, or a validator of the author's, found in this value."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]
    return "; ".join(_fault(_path(fault, value), fault["msg"]) for fault in faults)


def _path(fault: ErrorDetails, value: Any) -> Sequence[str | int]:
    """Return the place of the fault: the part of its location that leads through the value.

    pydantic's location also names the type of a union that it tried.
    """
    if fault["type"] == "missing":
        return fault["loc"]
    path: list[str | int] = []
    for part in fault["loc"]:
        with contextlib.suppress(LookupError, TypeError):
            value = value[part]
            path.append(part)
    return path


def _fault(path: Sequence[str | int], message: str) -> str:
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return f"{pointer}: {message[:MAX_FAULT]}" if pointer else message[:MAX_FAULT]
