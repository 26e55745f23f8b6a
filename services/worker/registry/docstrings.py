"""What an author wrote about a function and its parameters: the docstring, and texts in `Annotated`."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_origin

import docstring_parser
import msgspec

from services.worker.registry.hints import fields_of
from services.worker.registry.reasons import printable


class Docs(msgspec.Struct, frozen=True):
    """The parts of a docstring: on the function, on its parameters, and on what it yields or returns."""

    function: str
    parameters: dict[str, str]
    chunk: str | None = None


def docs_of(function: Callable[..., Any]) -> Docs:
    """Parse a docstring (Google style). One of another form describes the function as a whole."""
    docstring = printable(inspect.getdoc(function) or "")
    try:
        parsed = docstring_parser.parse(docstring, style=docstring_parser.DocstringStyle.GOOGLE)
    except docstring_parser.ParseError:
        return Docs(docstring, {})
    return Docs(
        (parsed.description or "").strip(),
        {parameter.arg_name: parameter.description for parameter in parsed.params if parameter.description},
        parsed.returns.description if parsed.returns else None,
    )


def annotation_doc(hint: Any) -> str | None:
    """Return the text in `Annotated[…, "text"]` or `Annotated[…, Doc("text")]` (PEP 727); None if there is none."""
    if get_origin(hint) is not Annotated:
        return None
    for annotation in hint.__metadata__:
        text = getattr(annotation, "documentation", annotation)
        if isinstance(text, str):
            return printable(text)
    return None


def field_docs_of(cls: Any) -> dict[str, str]:
    """Return the texts in the annotations of a class's fields, by the fields' names."""
    return {name: text for name, hint in fields_of(cls).items() if (text := annotation_doc(hint))}
