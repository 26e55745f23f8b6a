"""Announcements that another program, or a worker of another release, has written."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from plugins import keys
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
async def own(own_url: str) -> AsyncIterator[Redis]:
    """A client of that database."""
    async with Redis.from_url(own_url) as redis:
        yield redis


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


UNREADABLE = {
    "no JSON": b"{",
    "no declaration": b"[]",
    "a field is missing, which a newer release may need": b'{"name":"odd","description":""}',
    "deep": b"[" * 100_000,
    "of another name": json.dumps({"name": "good", **DECLARED}).encode(),
    "its input is no schema": json.dumps({"name": "odd", **DECLARED, "input": {"type": "nonsense"}}).encode(),
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


async def test_a_reference_is_not_followed(client: httpx.AsyncClient, own: Redis, listener: socket.socket) -> None:
    """A program that can write an announcement cannot make the API send requests."""
    foreign = json.dumps({"name": "odd", **DECLARED, "input": {"properties": {"x": {"$ref": address(listener)}}}})
    await own.hset(keys.FUNCTIONS, "odd", foreign)
    await own.expire(keys.FUNCTIONS, 60)
    answer = await client.post("/tasks", json={"function": "odd", "input": {"x": 1}})
    assert answer.status_code == 404
    nobody_came(listener)


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
