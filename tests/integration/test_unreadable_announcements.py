"""Announcements that another program, or a worker of another release, has written."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import declaration, keys
from services.worker.registry import registry
from tests.support.processes import Api, api_process

pytestmark = pytest.mark.anyio

DECLARED: dict[str, Any] = {"description": "", "version": "1", "timeout": 1, "input": {"type": "object"}}


@pytest.fixture(scope="module")
def api(own_url: str) -> Iterator[Api]:
    """An API on a database of its own."""
    with api_process(own_url) as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=api.url, timeout=10) as client:
        yield client


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server to which a service would connect that follows a reference."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def address(listener: socket.socket) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}/secret.json"


def nobody_came(listener: socket.socket) -> None:
    """No connection was made to it."""
    with pytest.raises(BlockingIOError):
        listener.accept()


def nested(depth: int) -> dict[str, Any]:
    """A schema of arrays within arrays."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return {"properties": {"x": schema}}


UNREADABLE = {
    "no JSON": b"{",
    "no declaration": b"[]",
    "a field is missing, which a newer release may need": b'{"name":"odd","description":""}',
    "deep": b"[" * 100_000,
    "of another name": json.dumps({"name": "good", **DECLARED}).encode(),
    "its input is no schema": json.dumps({"name": "odd", **DECLARED, "input": {"type": "nonsense"}}).encode(),
    "its schema is deep": json.dumps({"name": "odd", **DECLARED, "input": nested(200)}).encode(),
    "its name is none": json.dumps({"name": "../odd", **DECLARED}).encode(),
    "long": json.dumps({"name": "odd", **DECLARED, "description": "x" * declaration.MAX_BYTES}).encode(),
    "its time-out is none": json.dumps({"name": "odd", **DECLARED, "timeout": "1e400"}).encode(),
    "it refers to a file": json.dumps({"name": "odd", **DECLARED, "input": {"$ref": "file:///etc/passwd"}}).encode(),
}


@pytest.mark.parametrize("written", UNREADABLE.values(), ids=UNREADABLE)
async def test_the_other_functions_are_announced(
    api: Api, client: httpx.AsyncClient, own: Redis, written: bytes
) -> None:
    """A function that cannot be read is unknown. Nothing else is: not in a list, nor in the OpenAPI document."""
    announced = {"good": json.dumps({"name": "good", **DECLARED}), "odd": written}
    await own.hset(keys.FUNCTIONS, mapping=announced)  # type: ignore[arg-type]  # a dict of its keys
    await own.hset(keys.BROKEN, "odd.py", written.decode())
    await own.expire(keys.FUNCTIONS, 60)
    await own.expire(keys.BROKEN, 60)

    listed = (await client.get("/functions")).json()
    assert [each["name"] for each in listed["functions"]] == ["good"]
    assert listed["broken"] == []
    assert "/functions/good/tasks" in (await client.get("/schema")).json()["paths"]
    answer = await client.post("/tasks", json={"function": "odd"})
    assert (answer.status_code, answer.json()["known"]) == (404, ["good"])
    assert (await client.post("/tasks", json={"function": "good"})).status_code == 202
    assert (await client.get("/health/ready")).json()["functions"] == "ok"
    said = [line for line in api.process.output.splitlines() if "announcement not readable" in line]
    assert len(said) == len(set(said)) > 0


ODD: dict[str, dict[str, Any]] = {
    "a definition that allows all": {"$defs": {"Any": True}, "properties": {"x": {"$ref": "#/$defs/Any"}}},
    "a place within a definition": {
        "$defs": {"It": {"properties": {"y": True}}},
        "properties": {"x": {"$ref": "#/$defs/It/properties/y"}},
    },
    "a discriminator of no schema": {"discriminator": {"propertyName": "x", "mapping": {"a": 5, "b": "#/$defs/None"}}},
    "an anchor": {"$defs": {"It": {"$anchor": "it"}}, "properties": {"x": {"$ref": "#it"}}},
    "words that say nothing": {"$defs": {}, "title": 5 * "x", "x-nothing": [{"$ref": 5}]},
}


@pytest.mark.parametrize("schema", ODD.values(), ids=ODD)
async def test_an_odd_schema(client: httpx.AsyncClient, own: Redis, schema: dict[str, Any]) -> None:
    """A schema by which inputs can be validated is served, however odd it is."""
    await own.hset(keys.FUNCTIONS, "odd", json.dumps({"name": "odd", **DECLARED, "input": schema}))
    await own.expire(keys.FUNCTIONS, 60)
    assert (await client.get("/functions/odd")).json()["input"] == schema
    document = await client.get("/schema")
    assert document.status_code == 200
    assert "/functions/odd/tasks" in document.json()["paths"]
    assert (await client.post("/tasks", json={"function": "odd", "input": {"x": 1}})).status_code == 202


@pytest.mark.parametrize("key", [keys.FUNCTIONS, keys.BROKEN, keys.PAUSED])
async def test_keys_of_another_type(api: Api, client: httpx.AsyncClient, own: Redis, key: str) -> None:
    """No call fails for what it can do without. Each key is logged once."""
    await own.delete(keys.FUNCTIONS, keys.BROKEN, keys.PAUSED)
    await own.hset(keys.FUNCTIONS, "good", json.dumps({"name": "good", **DECLARED}))
    await own.expire(keys.FUNCTIONS, 60)
    await own.set(key, "nothing of ours", ex=60)
    names = [] if key == keys.FUNCTIONS else ["good"]
    try:
        for _ in range(2):
            listed = await client.get("/functions")
            assert (listed.status_code, [each["name"] for each in listed.json()["functions"]]) == (200, names)
            assert (await client.get("/schema")).status_code == 200
            assert (await client.get("/health/ready")).json()["functions"] == "ok"
            assert (await client.get("/functions/good")).status_code == (200 if names else 404)
            assert (await client.post("/tasks", json={"function": "good"})).status_code == (202 if names else 404)
        paused = await client.put("/functions/good/paused")
        assert paused.status_code == {keys.FUNCTIONS: 404, keys.BROKEN: 200, keys.PAUSED: 503}[key]
    finally:
        await own.delete(keys.FUNCTIONS, keys.BROKEN, keys.PAUSED)
    said = [line for line in api.process.output.splitlines() if "functions not readable" in line and key in line]
    said += [line for line in api.process.output.splitlines() if "announcements not readable" in line and key in line]
    assert said
    assert "Traceback" not in api.process.output


async def test_a_reference_is_not_followed(client: httpx.AsyncClient, own: Redis, listener: socket.socket) -> None:
    """A program that can write an announcement cannot make the API send requests."""
    foreign = json.dumps({"name": "odd", **DECLARED, "input": {"properties": {"x": {"$ref": address(listener)}}}})
    await own.hset(keys.FUNCTIONS, "odd", foreign)
    await own.expire(keys.FUNCTIONS, 60)
    answer = await client.post("/tasks", json={"function": "odd", "input": {"x": 1}})
    assert answer.status_code == 404
    nobody_came(listener)


def test_a_worker_announces_no_long_one(tmp_path: Path) -> None:
    """A function whose description is too long to be listed is refused; the file's other functions are loaded."""
    (tmp_path / "odd.py").write_text(
        "from plugins import function\n"
        "@function()\n"
        "async def odd(x: int) -> int:\n"
        f"    '''Say {'x' * declaration.MAX_BYTES}.'''\n"
        "    return x\n"
        "@function()\n"
        "async def good(x: int) -> int:\n"
        "    return x\n"
    )
    loaded = registry.load([tmp_path], 30)
    assert list(loaded.plugins) == ["good"]
    (reason,) = loaded.broken.values()
    assert "at most 262,144 are announced" in reason


def test_a_worker_follows_none(tmp_path: Path, listener: socket.socket) -> None:
    """A function whose signature refers to another place is refused; the file's other functions are loaded."""
    (tmp_path / "odd.py").write_text(
        "from typing import Annotated\n"
        "from pydantic import Field\n"
        "from plugins import function\n"
        "@function()\n"
        f"async def odd(x: Annotated[int, Field(json_schema_extra={{'$ref': {address(listener)!r}}})]) -> int:\n"
        "    return x\n"
        "@function()\n"
        "async def good(x: int) -> int:\n"
        "    return x\n"
    )
    loaded = registry.load([tmp_path], 30)
    assert list(loaded.plugins) == ["good"]
    (reason,) = loaded.broken.values()
    assert "a schema may refer to its own definitions only" in reason
    nobody_came(listener)
