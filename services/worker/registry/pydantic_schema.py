"""Parameters that hold something of pydantic's are described and converted by pydantic, all of a function's at once."""

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
import pydantic
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from services.worker.registry import msgspec_schema

# Whose annotations msgspec would pass over in silence.
PACKAGES: Final = frozenset({"pydantic", "annotated_types"})


def concerns(parameters: Iterable[inspect.Parameter]) -> bool:
    """Whether a type, a default or an annotation of these is pydantic's."""
    seen: set[int] = set()
    return any(isinstance(each.default, FieldInfo) or _concerns(each.annotation, seen) for each in parameters)


def _concerns(hint: Any, seen: set[int]) -> bool:
    if id(hint) in seen:
        return False
    seen.add(id(hint))
    if get_origin(hint) is Annotated and any(_of_pydantic(type(each)) for each in hint.__metadata__):
        return True
    if isinstance(hint, type):
        if _of_pydantic(hint) or hasattr(hint, "__get_pydantic_core_schema__"):
            return True
        if any(hasattr(hint, mark) for mark in ("__dataclass_fields__", "__struct_fields__", "__total__")):
            return any(_concerns(each, seen) for each in get_type_hints(hint, include_extras=True).values())
    return any(_concerns(each, seen) for each in get_args(hint))


def _of_pydantic(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in PACKAGES


class _Narrow(GenerateJsonSchema):
    """Says no more than what Python's types can hold, in the words of `msgspec_schema.py`."""

    def datetime_schema(self, schema: Any) -> JsonSchemaValue:
        return dict(msgspec_schema.DATE_TIME)

    def date_schema(self, schema: Any) -> JsonSchemaValue:
        return dict(msgspec_schema.DATE)

    def time_schema(self, schema: Any) -> JsonSchemaValue:
        return dict(msgspec_schema.TIMES[None])

    def timedelta_schema(self, schema: Any) -> JsonSchemaValue:
        return dict(msgspec_schema.DURATION)


def read_with(
    parameters: list[inspect.Parameter], name: str
) -> tuple[dict[str, Any], Callable[[bytes], dict[str, Any]]]:
    """The schema of these parameters, and what makes keyword arguments of JSON.

    Raises:
        pydantic.errors.PydanticUserError: a type that pydantic has no schema for.
    """
    fields = [(each.name, each.annotation, _default(each.default)) for each in parameters]
    structure = dataclasses.make_dataclass(
        name, fields, kw_only=True, namespace={"__pydantic_config__": pydantic.ConfigDict(extra="forbid")}
    )
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(structure)

    def read(given: bytes) -> dict[str, Any]:
        try:
            converted = adapter.validate_json(given)
        except pydantic.ValidationError as error:
            raise msgspec.ValidationError(_said(error)) from error
        return {each.name: getattr(converted, each.name) for each in parameters}

    return adapter.json_schema(schema_generator=_Narrow), read


def writes(kind: Any) -> bool:
    """Whether values of this type are models of pydantic's, or plain containers of them, which write themselves."""
    if get_origin(kind) is Annotated:
        return False
    return (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)) or any(map(writes, get_args(kind)))


def written(kind: Any) -> dict[str, Any]:
    """The schema of such a value as JSON has it once it is written.

    Raises:
        pydantic.errors.PydanticUserError: a type that pydantic has no schema for.
    """
    return pydantic.TypeAdapter(kind).json_schema(mode="serialization")


def _default(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return dataclasses.field()
    if isinstance(default, FieldInfo):
        return default
    return dataclasses.field(default_factory=partial(copy.deepcopy, default))


def _said(error: pydantic.ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{fault['msg']} - at `{'.'.join(map(str, ('$', *fault['loc'])))}`" for fault in faults)
