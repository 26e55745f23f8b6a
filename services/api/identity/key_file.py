"""The file of the API keys, which is read again when it changes.

{"keys": {"<id>": {"sha256": "…", "owner": "alice", "scopes": ["tasks"], "expires": "2030-01-01T00:00:00Z"}}}
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec
import structlog

from services.api.identity.api_keys import Record

# Seconds between two looks at the file.
LOOK_S: Final = 0.5

Id = Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z]{1,32}$")]

logger = structlog.get_logger()


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file has: each key's record, by its id."""

    keys: dict[Id, Record] = {}


class KeyFileError(Exception):
    """The file cannot be read, or is none of keys. The message says where it is wrong."""


class UnreadError(KeyFileError):
    """The file cannot be read now. The same file may be readable later, and is not known to be wrong."""


def read(path: Path) -> Keys:
    """Return what the file has.

    Raises:
        KeyFileError: it is none of keys; an `UnreadError`, it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Keys)
    except OSError as error:
        raise UnreadError(str(error.strerror)) from None
    except msgspec.MsgspecError as error:
        raise KeyFileError(str(error)) from None
    except UnicodeDecodeError:  # of a string; its text would repeat a part of the file
        raise KeyFileError("a string in it is no UTF-8") from None


class KeyFile:
    """The keys of the file as it was read last. `records` are those, by id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = _mark(path)
        self._fault: tuple[tuple[int, ...], str] | None = None  # that was logged last, since the file was read
        self.records: dict[str, Record] = read(path).keys

    async def watch(self, changed: Callable[[], None]) -> NoReturn:
        """Read the file again when it changes, and call back then. If it cannot be read, what it had stays, until it
        can be: a key may have been revoked.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            mark = await asyncio.to_thread(_mark, self._path)
            if mark != self._mark:
                await self._reload(mark, changed)

    async def _reload(self, mark: tuple[int, ...], changed: Callable[[], None]) -> None:
        try:
            keys = await asyncio.to_thread(read, self._path)
        except KeyFileError as error:
            if not isinstance(error, UnreadError):
                self._mark = mark
            self._log_once(mark, str(error))
            return
        logger.info("api keys read", file=str(self._path), keys=len(keys.keys))
        self._mark, self._fault = mark, None
        self.records = keys.keys
        changed()

    def _log_once(self, mark: tuple[int, ...], fault: str) -> None:
        if (mark, fault) != self._fault:
            logger.error("api keys not read, those known stay", file=str(self._path), error=fault)
        self._fault = mark, fault


def _mark(path: Path) -> tuple[int, ...]:
    """Return what changes whenever the file is written or replaced; nothing if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
