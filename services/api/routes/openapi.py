"""GET /schema: the OpenAPI document, in which every function that the caller may start has an operation of its own.

What Litestar makes of the routes is the base, and never changes. What the workers have announced is added at each
change: they come and go while this process runs. A function's path has no OPTIONS in the document. OPTIONS of
the path with the placeholder is the same, and a generated client would have a useless call for each function.
"""

import asyncio
import re
from collections.abc import Callable, Container
from typing import Any, Final
from urllib.parse import unquote

from litestar import Litestar, MediaType, Request, Response
from msgspec.structs import replace

from plugins.declaration import Declaration
from services.api.catalog import Catalog
from services.api.http import every_call
from services.api.http.documents import Document, Documents, answer, document_of
from services.api.http.methods import options
from services.api.http.root_path import prefix_of
from services.api.identity.security_schemes import SecuritySchemes
from services.api.settings import Settings
from services.api.streams.formats import NDJSON, SSE

PATHS: Final = frozenset({"/schema", "/schema/openapi.json"})

# What the operations of functions are made of.
GENERIC: Final = "/functions/{name}/tasks"

REFERENCE: Final = "#/components/schemas/"

# What a schema on its own has, and a component has not.
OF_ITS_OWN: Final = frozenset({"$schema", "$defs", "title"})

# What the name of a component may not have.
UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")


async def current(request: Request[Any, Any, Any]) -> Response[Any] | None:
    """Answer the current document, or OPTIONS, before Litestar does. Return None for any other request."""
    if request.method == "OPTIONS":
        return await options(request)
    if request.scope["path"] not in PATHS:
        return None
    catalog: Catalog = request.app.state.catalog
    documents: Documents = request.app.state.documents
    # Workers announce again and again; the time at which they do is not in the document.
    functions = [replace(each, announced_at=None) for each in await catalog.declarations(request.user)]
    server = prefix_of(request.scope) or "/"
    view = server, *(each.name for each in functions)

    async def make() -> Document:
        document = await with_functions(request.app, functions)
        return document_of(document | {"servers": [{"url": server}]})

    return answer(request, await documents.schema.of(view, (server, functions), make))


async def with_functions(app: Litestar, functions: list[Declaration]) -> dict[str, Any]:
    """Return the document of the application with an operation and the schema of its input for each of these functions.

    A large schema takes milliseconds, and there may be hundreds. Streams go on after each.
    """
    settings: Settings = app.state.settings
    schemes = SecuritySchemes(settings.auth, tickets=bool(settings.ticket_keys))
    document = exact(app.openapi_schema.to_schema())
    schemes.complete(document, app.routes)
    every_call.complete(document)
    generic = document["paths"][GENERIC]["post"]
    schemas = document["components"]["schemas"]
    for function in functions:
        schemas |= schemas_of(function, schemas)
        call = schemes.of_function(operation(generic, function), function.name)
        document["paths"][GENERIC.replace("{name}", function.name)] = {"post": call}
        await asyncio.sleep(0)
    return document


def exact(document: dict[str, Any]) -> dict[str, Any]:
    """Correct what Litestar cannot be told: a stream has either format, and no error has the form of Litestar's own."""
    for operation in (operation for calls in document["paths"].values() for operation in calls.values()):
        content = {status: answer.get("content", {}) for status, answer in operation["responses"].items()}
        if SSE.media_type in content.get("200", ()):
            content["200"][NDJSON.media_type] = content["200"][SSE.media_type]
        # It adds one to every operation that has a parameter, a path's too, which every text fits.
        if MediaType.JSON in content.get("400", ()):
            del operation["responses"]["400"]
    return document


def component(function: Declaration) -> str:
    """Return the name of the schema of its input."""
    return f"function.{function.name}.input"


def operation(generic: dict[str, Any], function: Declaration) -> dict[str, Any]:
    """Return the operation that starts this function: the generic one with its input."""
    summary, _, more = function.description.partition("\n")
    body = {"schema": {"$ref": REFERENCE + component(function)}}
    return {
        **generic,
        "tags": ["functions"],
        "operationId": f"start.{function.name}",
        "summary": summary or f"Start {function.name}",
        "description": more.strip(),
        "parameters": [parameter for parameter in generic.get("parameters", []) if parameter["in"] != "path"],
        "requestBody": {"required": True, "content": {"application/json": body}},
    }


def schemas_of(function: Declaration, others: Container[str]) -> dict[str, Any]:
    """Return the schema of its input, and each of that schema's definitions, as components beside these others.

    Generators of clients know no definitions within a component. They name a class by its title, if there is one, and
    drop the second class of a name: the titles of two functions may be the same.
    """
    root = component(function)
    definitions = function.input.get("$defs", {})
    names: dict[str, str] = {}
    for definition in definitions:
        name = f"function.{function.name}.{UNFIT.sub('_', definition)}"
        while name == root or name in others or name in names.values():
            name += "_"
        names[definition] = name

    def moved(reference: str) -> str:
        """Return a reference within the input's schema as it must be in the document."""
        path = reference.removeprefix("#").split("/")
        if path[:2] == ["", "$defs"] and len(path) > 2:
            definition = names.get(unescaped(path[2]), root)
            return "/".join([REFERENCE + definition, *path[3:]])
        return "/".join([REFERENCE + root, *path[1:]])

    schemas = {root: function.input} | {names[definition]: schema for definition, schema in definitions.items()}
    return {
        name: _moved({word: item for word, item in schema.items() if word not in OF_ITS_OWN}, moved)
        if isinstance(schema, dict)
        else schema
        for name, schema in schemas.items()
    }


def unescaped(token: str) -> str:
    """Return a part of a JSON pointer in a URL as the name that it stands for."""
    return unquote(token).replace("~1", "/").replace("~0", "~")


def _moved(value: Any, moved: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_moved(item, moved) for item in value]
    if not isinstance(value, dict):
        return value
    return {word: _moved_member(word, item, moved) for word, item in value.items()}


def _moved_member(word: str, item: Any, moved: Callable[[str], str]) -> Any:
    if word == "$ref" and isinstance(item, str):
        return moved(item) if item.startswith("#") else item
    if word == "discriminator" and isinstance(item, dict) and isinstance(item.get("mapping"), dict):
        return item | {
            "mapping": {tag: _moved_member("$ref", reference, moved) for tag, reference in item["mapping"].items()}
        }
    return _moved(item, moved)
