"""Validation of an input against the schema that its function announced: one JSON pointer (RFC 6901) per error.

It runs in the event loop, so it is bounded: to find out whether an input fits takes microseconds, to collect the errors
of one that has thousands took half a second.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

import jsonschema_rs
import msgspec

from plugins import entries

# Errors in an answer, and characters of each: of its message, which may quote the value, and of its pointer.
MAX_ERRORS: Final = 50
MAX_LENGTH: Final = 500

# Values of an input of which all errors are collected, some milliseconds at most. Of a larger one, the first is told.
MAX_VALUES: Final = 256


class Errors(NamedTuple):
    """The errors of an input, each `{"pointer": "/input/…", "message": …}`: those that are told, and how many more.

    `more` is None if that is not known, because the input is large.
    """

    told: list[dict[str, str]]
    more: int | None = 0


class SchemaError(ValueError):
    """A schema by which nothing can be validated: the message says why."""


def errors(schema: dict[str, Any], value: Any, path: Sequence[str]) -> Errors:
    """Return the errors of `value`, which stands at `path` in the body: none if it fits the schema.

    Raises:
        SchemaError: the schema is none, or refers to what is not in it.
    """
    if entries.too_deep(value):
        return Errors([{"pointer": pointer(path), "message": f"is nested deeper than {entries.MAX_DEPTH} levels"}])
    validator = validator_of(msgspec.json.encode(schema))
    if validator.is_valid(value):
        return Errors([])
    if entries.has_more_values(value, MAX_VALUES):
        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return Errors(list(islice(_described(error, path), MAX_ERRORS)), None)
    described = (each for error in validator.iter_errors(value) for each in _described(error, path))
    return Errors(list(islice(described, MAX_ERRORS)), sum(1 for _ in described))


@lru_cache(maxsize=1_024)
def validator_of(schema: bytes) -> jsonschema_rs.Validator:
    """Return the validator of a schema, as JSON. Nothing outside of the schema is read for it.

    Raises:
        SchemaError: the schema is none, or refers to what is not in it.
    """
    try:
        return jsonschema_rs.validator_for(schema.decode(), validate_formats=True, retriever=_read_nothing)
    except ValueError as error:
        raise SchemaError(str(error).partition("\n")[0][:MAX_LENGTH]) from error


def _read_nothing(uri: str) -> Any:
    """Stand for jsonschema-rs' own retriever, which requests `http:` and reads `file:` references."""
    raise ValueError(f"a schema may refer to its own definitions only, and not to {uri}")


def _described(error: jsonschema_rs.ValidationError, base: Sequence[str]) -> Iterator[dict[str, str]]:
    path, kind = [*base, *error.instance_path], error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield {"pointer": pointer([*path, kind.property]), "message": "is required"}
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        for name in kind.unexpected:
            yield {"pointer": pointer([*path, name]), "message": "is unknown"}
    else:
        yield {"pointer": pointer(path), "message": error.message[:MAX_LENGTH]}


def pointer(path: Sequence[str | int]) -> str:
    """Return a path as a JSON pointer; as much of it as `MAX_LENGTH` characters can say, in whole parts."""
    parts = ["/" + str(part).replace("~", "~0").replace("/", "~1") for part in path]
    while sum(map(len, parts)) > MAX_LENGTH:
        parts.pop()
    return "".join(parts)
