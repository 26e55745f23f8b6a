"""What an author wrote about a function and its parameters: the docstring, and texts in `Annotated`."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_origin

import docstring_parser
import msgspec

from services.worker.registry.hints import fields_of


class Texts(msgspec.Struct, frozen=True):
    """What a docstring says: of the function, of its parameters, and of what it yields or returns."""

    function: str
    parameters: dict[str, str]
    chunk: str | None = None


def texts_of(function: Callable[..., Any]) -> Texts:
    """The docstring (Google style) in its parts. One of another form describes the function as a whole."""
    written = inspect.getdoc(function) or ""
    try:
        parsed = docstring_parser.parse(written, style=docstring_parser.DocstringStyle.GOOGLE)
    except docstring_parser.ParseError:
        return Texts(written, {})
    return Texts(
        (parsed.description or "").strip(),
        {each.arg_name: each.description for each in parsed.params if each.description},
        parsed.returns.description if parsed.returns else None,
    )


def annotated(hint: Any) -> str | None:
    """The text in `Annotated[…, "text"]` or `Annotated[…, Doc("text")]` (PEP 727), if there is one."""
    if get_origin(hint) is not Annotated:
        return None
    for each in hint.__metadata__:
        text = getattr(each, "documentation", each)
        if isinstance(text, str):
            return text
    return None


def texts_of_fields(cls: Any) -> dict[str, str]:
    """The texts beside the fields of a class, by the fields' names."""
    return {name: text for name, hint in fields_of(cls).items() if (text := annotated(hint))}
