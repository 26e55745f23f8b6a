"""This project with API keys: what it costs that the API knows its callers."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import ClassVar

import msgspec

from bench.peers.tailrace import Tailrace
from services.api.http.quotas import NO_OWN, Limits
from services.api.identity.api_keys import Record, new_key
from services.api.identity.key_file import Keys


class Keyed(Tailrace):
    """Ours, which serves only these owners, with these limits. Each has a key; clients send that of the first."""

    name: ClassVar = "tailrace, with keys"

    owners: Mapping[str, Limits] = MappingProxyType({"one": NO_OWN})

    async def start(self, stack: AsyncExitStack, redis_url: str) -> None:
        """Write the keys, and start."""
        file = Path(stack.enter_context(TemporaryDirectory())) / "keys.json"
        now = datetime.now(UTC)
        records: dict[str, Record] = {}
        self.keys: dict[str, str] = {}
        for owner, limits in self.owners.items():
            self.keys[owner], key_id, digest = new_key()
            records[key_id] = Record(digest, owner, created=now, limits=limits)
        file.write_bytes(msgspec.json.encode(Keys(records)))
        self.settings = {"TAILRACE_AUTH": "keys", "TAILRACE_KEYS_FILE": str(file)}
        self.headers = {"X-API-Key": next(iter(self.keys.values()))}
        await super().start(stack, redis_url)
