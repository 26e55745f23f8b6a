"""Callers of an API that asks for keys."""

import httpx

from tests.support.key_files import bearer
from tests.support.waiting import until


async def known(client: httpx.AsyncClient, *keys: str) -> None:
    """Wait until the API knows these keys: it has read their file."""
    for key in keys:

        async def is_known(key: str = key) -> bool:
            return (await client.get("/functions", headers=bearer(key))).status_code == 200

        await until(is_known, "the key is known")


async def unknown(client: httpx.AsyncClient, key: str) -> None:
    """Wait until the API does not know this key any more."""

    async def is_unknown() -> bool:
        return (await client.get("/functions", headers=bearer(key))).status_code == 401

    await until(is_unknown, "the key is revoked")
