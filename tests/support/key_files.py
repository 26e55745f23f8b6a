"""Files of API keys for tests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from services.api.identity.api_keys import Record, new_key
from services.api.identity.caller import USUAL
from services.api.identity.key_file import Keys
from tests.support.canaries import CANARY

# A secret of tickets, of APIs that take them.
TICKET_KEY = f"{CANARY}-that-signs-tickets-of-the-tests"

# Every right that there is.
ALL = (*sorted(USUAL), "admin")


class KeyFile:
    """A file of API keys, written anew at each change: to another file, which takes its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        self._write()

    def add(self, owner: str, *scopes: str, expires_s: float | None = None, **fields: Any) -> str:
        """Add a key of this owner, with these scopes or the usual ones; the key."""
        key, key_id, digest = new_key()
        expires = None if expires_s is None else datetime.now(UTC) + timedelta(seconds=expires_s)
        self.records[key_id] = Record(digest, owner, scopes or tuple(sorted(USUAL)), expires=expires, **fields)
        self._write()
        return key

    def change(self, key: str, **fields: Any) -> None:
        """Change what the file has of this key."""
        key_id = key.split("_")[1]
        self.records[key_id] = msgspec.structs.replace(self.records[key_id], **fields)
        self._write()

    def revoke(self, key: str) -> None:
        """Remove this key."""
        del self.records[key.split("_")[1]]
        self._write()

    def clear(self) -> None:
        """Remove all keys."""
        self.records.clear()
        self._write()

    def _write(self) -> None:
        new = self.path.with_name("new")
        new.write_bytes(msgspec.json.encode(Keys(self.records)))
        new.replace(self.path)


def bearer(key: str) -> dict[str, str]:
    """The header that proves the identity of a caller with this key, or token."""
    return {"Authorization": f"Bearer {key}"}
