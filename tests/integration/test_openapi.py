"""The OpenAPI document: every function is an operation of its own, as it is announced now."""

import json
from typing import Any

import httpx
import jsonschema_rs
import pytest
from redis.asyncio import Redis

from plugins import keys
from plugins.declaration import Declaration
from services.api.routes.openapi import schemas_of

pytestmark = pytest.mark.anyio


async def document(client: httpx.AsyncClient, path: str = "/schema") -> Any:
    """The document."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


def resolved(whole: Any, pointer: str) -> Any:
    """The target of a reference within the document."""
    place = whole
    for part in pointer.removeprefix("#/").split("/"):
        place = place[part.replace("~1", "/").replace("~0", "~")]
    return place


def references(value: Any) -> list[str]:
    """All references within a document."""
    if isinstance(value, list):
        return [each for part in value for each in references(part)]
    if not isinstance(value, dict):
        return []
    mine = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return mine + [each for part in value.values() for each in references(part)]


@pytest.mark.parametrize("path", ["/schema", "/schema/openapi.json"])
async def test_every_function_is_an_operation(client: httpx.AsyncClient, path: str) -> None:
    """With its own summary and the schema of its input as the body; every reference leads somewhere."""
    whole = await document(client, path)
    listed = (await client.get("/functions")).json()["functions"]
    operations = {
        name: whole["paths"][f"/functions/{name}/tasks"]["post"] for name in [each["name"] for each in listed]
    }
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations) > 10
    for each in listed:
        operation = operations[each["name"]]
        assert operation["summary"] == (each["description"].partition("\n")[0] or f"Start {each['name']}")
        body = resolved(whole, operation["requestBody"]["content"]["application/json"]["schema"]["$ref"])
        assert body["properties"].keys() == each["input"]["properties"].keys()
        assert [parameter["name"] for parameter in operation["parameters"]] == ["Idempotency-Key", "Last-Event-ID"]
        assert {"202", "400"} <= operation["responses"].keys()
    for reference in references(whole):
        resolved(whole, reference)


async def test_it_is_current(client: httpx.AsyncClient, redis: Redis) -> None:
    """A function that is announced while the API runs is in it, and is not when it is gone."""
    declared = {
        "name": "brand.new-1",
        "description": "",
        "version": "0",
        "timeout": 1,
        "input": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": "#/$defs/It",
            "$defs": {"It": {"properties": {"more": {"items": {"$ref": "#/$defs/It"}}}, "type": "object"}},
        },
    }
    assert "/functions/brand.new-1/tasks" not in (await document(client))["paths"]
    await redis.hset(keys.FUNCTIONS, "brand.new-1", json.dumps(declared))
    try:
        whole = await document(client)
    finally:
        await redis.hdel(keys.FUNCTIONS, "brand.new-1")
    assert whole["paths"]["/functions/brand.new-1/tasks"]["post"]["summary"] == "Start brand.new-1"
    schema = whole["components"]["schemas"]["function.brand.new-1.input"]
    assert resolved(whole, schema["$ref"])["properties"]["more"]["items"] == {"$ref": schema["$ref"]}
    assert "/functions/brand.new-1/tasks" not in (await document(client))["paths"]


async def test_bad_input_is_pointed_at_in_the_body(client: httpx.AsyncClient) -> None:
    """The pointers begin at the body, as the input does."""
    answer = await client.post("/functions/count/tasks", json={"every": "x", "nope": 1})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:tailrace:problem:invalid-input")
    assert sorted(fault["pointer"] for fault in answer.json()["errors"]) == ["/every", "/nope", "/to"]
    answer = await client.post("/functions/nope/tasks", json={})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:tailrace:problem:unknown-function")
    for body in (b"[1]", b"{", b"", b'"x"'):
        answer = await client.post("/functions/count/tasks", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, body
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_schema_that_was_moved_says_the_same() -> None:
    """Only references are moved, not what merely looks like one; each definition is a component of its own."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "$ref": {"$ref": "#/$defs/A~1B"},
            "b": {"const": "#/$defs/A~1B"},
            "again": {"$ref": "#"},
            "first": {"$ref": "#/properties/$ref"},
            "pet": {
                "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/input"}},
                "oneOf": [{"$ref": "#/$defs/input"}],
            },
        },
        "$defs": {
            "A/B": {"type": "integer"},
            "input": {"type": "object", "properties": {"kind": {"const": "cat"}, "age": {"$ref": "#/$defs/A~1B"}}},
        },
    }
    declared = Declaration(name="f", description="", version="", input=schema, timeout=1)
    components = schemas_of(declared, {"function.f.A_B"})
    assert set(components) == {"function.f.input", "function.f.A_B_", "function.f.input_"}
    pet = components["function.f.input"]["properties"]["pet"]
    assert pet["discriminator"]["mapping"] == {"cat": "#/components/schemas/function.f.input_"}
    inner = {"components": {"schemas": components}, "$ref": "#/components/schemas/function.f.input"}
    for given in (
        {"$ref": 1},
        {"$ref": "1"},
        {"b": "#/$defs/A~1B"},
        {"b": 1},
        {"again": {"$ref": 1}},
        {"again": {"$ref": "1"}},
        {"first": 1},
        {"first": "1"},
        {"pet": {"kind": "cat", "age": 1}},
        {"pet": {"kind": "cat", "age": "1"}},
        {"pet": {"kind": "dog"}},
    ):
        assert jsonschema_rs.is_valid(inner, given) is jsonschema_rs.is_valid(schema, given)


async def test_a_component_has_no_definitions(client: httpx.AsyncClient) -> None:
    """Generators of clients ignore definitions within a component, and then the operation that needs them."""
    components = (await document(client))["components"]["schemas"]
    assert {"function.chat.input", "function.chat.Message"} <= components.keys()
    assert [name for name, schema in components.items() if "$defs" in json.dumps(schema)] == []
