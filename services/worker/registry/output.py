"""The schema of a chunk, from the type that a function says it yields or returns.

It is a description for readers, and is not checked. A type that cannot be described has no schema. A chunk that JSON
cannot represent fails when it is yielded.
"""

import inspect
import types
from collections import abc
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, Final, Union, get_args, get_origin

import msgspec
import pydantic
from pydantic.errors import PydanticUserError

from plugins.event import Event, Progress
from services.worker.registry.docstrings import Docs
from services.worker.registry.schema import Plain

ITERATORS: Final = (abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator, abc.Iterator, abc.Iterable, abc.Generator)


def output_of(function: Callable[..., Any], docs: Docs) -> dict[str, Any] | None:
    """Return the JSON Schema of the chunks without a name; None if there are none, or if it cannot be described."""
    kind = _chunk(function, inspect.signature(function, eval_str=True).return_annotation)
    if kind is inspect.Signature.empty:
        return None
    try:
        schema = _schema(kind)
    # What a type is made of is its author's code: nothing is known of what looking at it may raise.
    except BaseException:  # noqa: BLE001  # then there is no schema, which is what this says
        return None
    if not schema:  # any JSON
        return None
    return schema | ({"description": docs.chunk} if docs.chunk else {})


def _schema(kind: Any) -> dict[str, Any]:
    """Return the schema of the type as it is written. A type that pydantic does not know may be a Struct of msgspec."""
    try:
        return pydantic.TypeAdapter(kind).json_schema(mode="serialization", schema_generator=Plain)
    except PydanticUserError:
        return msgspec.json.schema(kind)


def _chunk(function: Callable[..., Any], returned: Any) -> Any:
    """Return the type of one chunk, without `Event` and `Progress`; empty if no type is left, or none is known."""
    yields = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
    if yields or get_origin(returned) in (abc.Iterator, abc.Generator):
        args = get_args(returned) if get_origin(returned) in ITERATORS else ()
        returned = args[0] if args else inspect.Signature.empty
    kinds = get_args(returned) if get_origin(returned) in (Union, types.UnionType) else (returned,)
    plain = [kind for kind in kinds if kind not in (Event, Progress)]
    return reduce(or_, plain) if plain else inspect.Signature.empty
