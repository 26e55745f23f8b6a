"""GET /schema: the OpenAPI document, in which every announced function has an operation of its own.

What Litestar makes of the routes is the base, and never changes. What the workers have announced is added at each
request: they come and go while this process runs.
"""

from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response
from litestar.openapi.spec import OpenAPI

from plugins.declaration import Declaration
from services.api.catalog import declarations

PATHS: Final = frozenset({"/schema", "/schema/", "/schema/openapi.json"})

# What the operations of functions are made of.
GENERIC: Final = "/functions/{name}/tasks"


async def current(request: Request[Any, Any, Any]) -> Response[bytes] | None:
    """Answer the current document, before Litestar serves its own. Return None for any other request."""
    if request.method == "OPTIONS" or request.url.path not in PATHS:
        return None
    announced = await declarations(request.app.state.redis)
    document = with_functions(request.app.openapi_schema, announced)
    return Response(msgspec.json.encode(document), media_type=MediaType.JSON)


def with_functions(base: OpenAPI, functions: list[Declaration]) -> dict[str, Any]:
    """Return the document with an operation and the schema of its input for each of these functions."""
    document = base.to_schema()
    generic = document["paths"][GENERIC]["post"]
    schemas = dict(document["components"]["schemas"])
    paths = dict(document["paths"])
    for function in functions:
        schemas[component(function)] = input_schema(function)
        paths[GENERIC.replace("{name}", function.name)] = {"post": operation(generic, function)}
    return {**document, "paths": paths, "components": {**document["components"], "schemas": schemas}}


def component(function: Declaration) -> str:
    """Return the name of the schema of its input."""
    return f"function.{function.name}.input"


def operation(generic: dict[str, Any], function: Declaration) -> dict[str, Any]:
    """Return the operation that starts this function: the generic one with its input."""
    summary, _, more = function.description.partition("\n")
    body = {"schema": {"$ref": f"#/components/schemas/{component(function)}"}}
    return {
        **generic,
        "tags": ["functions"],
        "operationId": f"start.{function.name}",
        "summary": summary or f"Start {function.name}",
        "description": more.strip(),
        "parameters": [parameter for parameter in generic.get("parameters", []) if parameter["in"] != "path"],
        "requestBody": {"required": True, "content": {"application/json": body}},
    }


def input_schema(function: Declaration) -> Any:
    """Return the schema of its input, with references to its definitions as they stand in the document."""
    schema = {word: value for word, value in function.input.items() if word != "$schema"}
    return _moved(schema, f"#/components/schemas/{component(function)}/$defs/")


def _moved(value: Any, base: str) -> Any:
    if isinstance(value, list):
        return [_moved(item, base) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        word: base + item.removeprefix("#/$defs/")
        if word == "$ref" and isinstance(item, str) and item.startswith("#/$defs/")
        else _moved(item, base)
        for word, item in value.items()
    }
