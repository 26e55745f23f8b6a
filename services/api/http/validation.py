"""Validation of an input against the schema that its function announced: one JSON pointer (RFC 6901) per error."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from plugins import entries


def errors(schema: dict[str, Any], value: Any, path: Sequence[str]) -> list[dict[str, str]]:
    """Return every error of `value`, which stands at `path` in the body, as `{"pointer": "/input/…", "message": …}`.

    The list is empty if the value fits the schema.
    """
    if entries.too_deep(value):
        return [{"pointer": pointer(path), "message": f"is nested deeper than {entries.MAX_DEPTH} levels"}]
    validator = _validator(msgspec.json.encode(schema))
    return [described for error in validator.iter_errors(value) for described in _described(error, path)]


@lru_cache(maxsize=1_024)
def _validator(schema: bytes) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(schema.decode(), validate_formats=True)


def _described(error: jsonschema_rs.ValidationError, base: Sequence[str]) -> Iterator[dict[str, str]]:
    path, kind = [*base, *error.instance_path], error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield {"pointer": pointer([*path, kind.property]), "message": "is required"}
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        for name in kind.unexpected:
            yield {"pointer": pointer([*path, name]), "message": "is unknown"}
    else:
        yield {"pointer": pointer(path), "message": error.message[:500]}


def pointer(path: Sequence[str | int]) -> str:
    """Return a path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
