"""Idempotency keys as Redis has them: nothing in a name tells the key, and an upgrade forgets none."""

from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from plugins import keys
from services.api.tasks.idempotency import fingerprint_of
from tests.support.canaries import CANARY
from tests.support.client import start

BODY: Final[dict[str, Any]] = {"function": "count", "input": {"to": 1}}


@pytest.mark.anyio
async def test_a_key_is_stored_as_a_digest(client: httpx.AsyncClient, redis: Redis) -> None:
    """Keys may be mail addresses or numbers of orders: neither a name nor a value in Redis tells them. A long one needs
    no more room than a short one.
    """
    names = []
    for key in (f"alice@example.org {CANARY} {uuid4().hex}", uuid4().hex * 7):
        task_id = await start(client, "count", {"Idempotency-Key": key}, to=1)
        name = keys.idempotency("anonymous", key)
        reserved: Any = await redis.get(name)
        assert reserved.decode().startswith(task_id)
        assert [each async for each in redis.scan_iter(match=f"*{key[-32:]}*")] == []
        names.append(name)
    assert len({len(name) for name in names}) == 1


@pytest.mark.anyio
async def test_a_key_that_an_older_release_has_reserved(client: httpx.AsyncClient, redis: Redis) -> None:
    """For a day after an upgrade the same request is still the same task, and another one is refused."""
    key = uuid4().hex
    task_id = await start(client, "count", to=1)
    fingerprint = fingerprint_of("count", b'{"to":1}')
    await redis.set(f"idempotency:anonymous:{key}", f"{task_id}:{fingerprint}", ex=60)
    headers = {"Idempotency-Key": key}
    assert (await client.post("/tasks", json=BODY, headers=headers)).json()["task_id"] == task_id
    other = await client.post("/tasks", json=BODY | {"input": {"to": 2}}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:tailrace:problem:idempotency-key-reused")


PRINTABLE: Final = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20)


@given(st.text(max_size=10), PRINTABLE, st.text(max_size=10), PRINTABLE)
def test_two_owners_never_share_a_key(owner: str, key: str, other: str, other_key: str) -> None:
    """Whatever their names are, one owner's key is no other's: `a` with `b:c` is not `a:b` with `c`."""
    same = keys.idempotency(owner, key) == keys.idempotency(other, other_key)
    assert same == ((owner, key) == (other, other_key))
    assert keys.idempotency(owner, f"b:{key}") != keys.idempotency(f"{owner}:b", key)
