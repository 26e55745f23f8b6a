"""What is wrong with an input: one JSON pointer (RFC 6901) per fault, by the schema the function announced."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from plugins import entries


def faults(schema: dict[str, Any], value: Any, place: Sequence[str]) -> list[dict[str, str]]:
    """Every fault of `value`, which stands at `place` in the body, as `{"pointer": "/input/…", "message": …}`; an empty
    list where it fits the schema.
    """
    if entries.too_deep(value):
        return [{"pointer": pointer(place), "message": f"is nested deeper than {entries.MAX_DEPTH} levels"}]
    validator = _validator(msgspec.json.encode(schema))
    return [fault for error in validator.iter_errors(value) for fault in _faults_of(error, place)]


@lru_cache(maxsize=1_024)
def _validator(schema: bytes) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(schema.decode(), validate_formats=True)


def _faults_of(error: jsonschema_rs.ValidationError, place: Sequence[str]) -> Iterator[dict[str, str]]:
    path, kind = [*place, *error.instance_path], error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield {"pointer": pointer([*path, kind.property]), "message": "is required"}
    elif isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        for name in kind.unexpected:
            yield {"pointer": pointer([*path, name]), "message": "is unknown"}
    else:
        yield {"pointer": pointer(path), "message": error.message[:500]}


def pointer(path: Sequence[str | int]) -> str:
    """A path as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
