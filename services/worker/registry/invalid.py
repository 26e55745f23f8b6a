"""What is wrong with an input that came as far as the worker, in words: a JSON pointer (RFC 6901) for each fault."""

import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import pydantic
from pydantic_core import ErrorDetails

# How many faults are told, and how many characters of each: a fault may repeat the value, and every reader gets it.
MAX_FAULTS: Final = 10
MAX_FAULT: Final = 500


class InvalidInputError(Exception):
    """An input is not what the signature asks for: the message names each place and says why."""


def against(validator: jsonschema_rs.Validator, value: Any) -> str:
    """The faults of a value by its schema; empty where it fits."""
    errors = islice(validator.iter_errors(value), MAX_FAULTS)
    return "; ".join(_fault(error.instance_path, error.message) for error in errors)


def in_words(error: pydantic.ValidationError, value: Any) -> str:
    """What pydantic, or a validator of the author's, found wrong with this value."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]
    return "; ".join(_fault(_path(fault, value), fault["msg"]) for fault in faults)


def _path(fault: ErrorDetails, value: Any) -> Sequence[str | int]:
    """Where the fault is: the part of its location that leads through the value.

    Besides, pydantic names which type of a union it tried.
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
