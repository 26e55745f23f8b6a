"""The parts of an annotation: the types in it and in their fields, and the metadata of `Annotated`."""

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final, get_args, get_origin, get_type_hints

import pydantic

# A dataclass, a TypedDict, a NamedTuple.
MARKS: Final = ("__dataclass_fields__", "__total__", "_fields")


def parts_of(*hints: Any) -> Iterator[Any]:
    """Yield these annotations and all of their parts, each once."""
    seen: dict[int, Any] = {}
    waiting = list(hints)
    while waiting:
        hint = waiting.pop()
        if id(hint) not in seen:
            seen[id(hint)] = hint  # kept, so that no other gets its id
            waiting += [*get_args(hint), *fields_of(get_origin(hint) or hint).values()]
            yield hint


def fields_of(cls: Any) -> dict[str, Any]:
    """Return the annotations of a class's fields by name: none if it has no fields, or if a name in them is unknown."""
    if isinstance(cls, type) and issubclass(cls, pydantic.BaseModel):
        return {name: field.rebuild_annotation() for name, field in cls.model_fields.items()}
    with contextlib.suppress(NameError):
        if isinstance(cls, type) and any(hasattr(cls, mark) for mark in MARKS):
            return get_type_hints(cls, include_extras=True)
        if hasattr(cls, "__value__"):  # `type Name = …`, which may be text
            alias = SimpleNamespace(__annotations__={"": cls.__value__})
            return get_type_hints(alias, vars(sys.modules[cls.__module__]), include_extras=True)
    return {}
