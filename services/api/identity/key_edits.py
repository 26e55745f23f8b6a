"""Edits the file of the API keys: each edit whole or not at all, and one after the other."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from services.api.identity.api_keys import Record
from services.api.identity.key_file import KeyFileError, Keys, read

# Errors that are known, and the way out.
ADVICE: Final = {
    errno.EBUSY: "it is mounted by itself: mount its folder instead",
    errno.ENOENT: "its folder does not exist",
    errno.EPERM: "only its owner or root may replace it",
    errno.EROFS: "its file system is read-only: edit the file that it comes from",
}


@contextmanager
def edit(path: Path, *, create: bool = False) -> Iterator[dict[str, Record]]:
    """Yield the records of the file, by id, and write what has become of them. An exception leaves the file as it was.

    Edits of all processes wait for each other. `create` makes a file that does not exist.

    Raises:
        KeyFileError: it cannot be read or written.
    """
    try:
        with _locked(path.parent):
            if path.is_symlink():
                raise KeyFileError(
                    "it is a symbolic link, as in a mounted Secret of Kubernetes: edit the file that it comes from"
                )
            keys = Keys() if create and not path.exists() else read(path)
            records = dict(keys.keys)
            yield records
            _replace(path, msgspec.json.format(msgspec.json.encode(Keys(records)), indent=2) + b"\n")
    except OSError as error:
        raise KeyFileError(ADVICE.get(error.errno or 0, str(error.strerror))) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The folder: each edit replaces the file, and a lock would stay with the one that was replaced.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)  # the new file's name survives a crash of the machine
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of this one. It has the same owner and mode; without one before it, mode 0600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as new:
            if path.exists():
                _keep_owner(descriptor, path.stat())
            new.write(content)
            new.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _keep_owner(descriptor: int, before: os.stat_result) -> None:
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & 0o777)
