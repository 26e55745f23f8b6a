"""`python -m services.api.keys`: adds, lists and revokes API keys, in the file that TAILRACE_KEYS_FILE names."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from services.api.http.quotas import NO_OWN, Limits
from services.api.identity.api_keys import MAX_OWNER, SCOPE, Record, new_key
from services.api.identity.caller import USUAL
from services.api.identity.key_edits import edit
from services.api.identity.key_file import KeyFileError, read

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

# The longest life of a key that expires: dates that are much later are mistakes, and not all of them can be written.
LONGEST: Final = timedelta(days=36_525)

NAMES: Final = Limits.__struct_fields__


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code: 1, it cannot be done; 2, by argparse, the command line is wrong."""
    asked = _parser().parse_args(arguments)
    if asked.file is None:
        print("TAILRACE_KEYS_FILE is not set: it should name the file of the API keys, or --file", file=sys.stderr)
        return 2
    try:
        asked.run(asked)
    except KeyFileError as error:
        print(f"{asked.file}: {error}", file=sys.stderr)
        return 1
    return 0


def add(asked: argparse.Namespace) -> None:
    """Add a key and print it.

    Raises:
        KeyFileError: the file cannot be changed.
    """
    key, key_id, digest = new_key()
    scopes = tuple(dict.fromkeys(asked.scope or sorted(USUAL)))
    limits = Limits(**dict(asked.limit)) if asked.limit else NO_OWN
    created = datetime.now(UTC).replace(microsecond=0)
    record = Record(digest, asked.owner, scopes, asked.expires, created, limits)
    with edit(asked.file, create=True) as records:
        records[key_id] = record
    print(key, flush=True)
    print(
        f"The key {key_id} is {asked.owner}'s, with the scopes {', '.join(scopes)}; it {_validity(record)}. "
        f"{asked.file} has its digest: no command prints it again.",
        file=sys.stderr,
    )


def list_keys(asked: argparse.Namespace) -> None:
    """Print what the file has of each key, but for the digests.

    Raises:
        KeyFileError: the file cannot be read.
    """
    records = sorted(read(asked.file).keys.items(), key=lambda item: (_text(item[1].created), item[0]))
    if asked.json:
        print(json.dumps([_members(key_id, record) for key_id, record in records], indent=2))
        return
    rows = [["ID", "OWNER", "SCOPES", "CREATED", "EXPIRES", "LIMITS"]]
    rows += [_row(key_id, record) for key_id, record in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def revoke(asked: argparse.Namespace) -> None:
    """Remove a key.

    Raises:
        KeyFileError: there is none with this id, or the file cannot be changed.
    """
    with edit(asked.file) as records:
        record = records.pop(asked.id, None)
        if record is None:
            raise KeyFileError(f"it has no key with the id {asked.id!r}: `list` prints the ids")
    print(f"The key {asked.id} of {_printable(record.owner)} is revoked.", file=sys.stderr)


def _validity(record: Record) -> str:
    return f"expires at {_text(record.expires)}" if record.expires else "is valid until it is revoked"


def _members(key_id: str, record: Record) -> dict[str, Any]:
    return {
        "id": key_id,
        "owner": record.owner,
        "scopes": list(record.scopes),
        "created": _text(record.created) or None,
        "expires": _text(record.expires) or None,
        "expired": record.is_expired(),
        "limits": msgspec.to_builtins(record.limits),
    }


def _row(key_id: str, record: Record) -> list[str]:
    limits = " ".join(f"{name}={most}" for name, most in msgspec.to_builtins(record.limits).items())
    expires = _text(record.expires) + (" (expired)" if record.is_expired() else "")
    texts = (key_id, _printable(record.owner), " ".join(record.scopes), _text(record.created), expires, limits)
    return [text or "-" for text in texts]


def _printable(text: str) -> str:
    # A file that was written by hand may have control characters, which a terminal obeys.
    return text if text.isprintable() else ascii(text)


def _text(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def _owner(text: str) -> str:
    if not text or len(text) > MAX_OWNER or not text.isprintable() or text != text.strip():
        raise argparse.ArgumentTypeError(
            f"it is {text!r:.60}: it should be a name of 1 to {MAX_OWNER} printable characters, no space at its ends"
        )
    return text


def _scope(text: str) -> str:
    if not re.fullmatch(SCOPE, text):
        raise argparse.ArgumentTypeError(
            f"it is {text!r:.60}: it should be `tasks`, `functions:NAME`, `functions:*` or `admin`"
        )
    return text


def _expires(text: str) -> datetime:
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        at = _time(text, now)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"it is {text!r:.60}: it should be 45s, 30m, 12h or 90d from now, a date such as 2030-01-31, or a time "
            "with its zone such as 2030-01-31T12:00:00Z"
        ) from None
    if not now < at <= now + LONGEST:
        raise argparse.ArgumentTypeError(
            f"it is {text!r:.60}: it should be in the future, and at most {LONGEST.days} days from now"
        )
    return at.astimezone(UTC)


def _time(text: str, now: datetime) -> datetime:
    """Return the time that is meant. A date is its first moment, in UTC.

    Raises:
        ValueError: it is none, or has no zone.
    """
    if match := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        seconds = timedelta(**{UNITS[match[2]]: int(match[1])})
        return now + min(seconds, LONGEST + timedelta(days=1))
    at = datetime.fromisoformat(text)
    if len(text) == len("2030-01-31"):
        return at.replace(tzinfo=UTC)
    if at.tzinfo is None:
        raise ValueError("no zone")
    return at


def _limit(text: str) -> tuple[str, int]:
    name, _, most = text.partition("=")
    if name not in NAMES or not re.fullmatch(r"[1-9][0-9]{0,8}", most):
        raise argparse.ArgumentTypeError(
            f"it is {text!r:.60}: it should be {', '.join(f'{each}=N' for each in NAMES)}; N is 1 to 999999999"
        )
    return name, int(most)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.api.keys",
        description="Add, list and revoke API keys. A running API sees each change within a second.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    named = os.environ.get("TAILRACE_KEYS_FILE")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--file",
        type=Path,
        default=Path(named) if named else None,
        metavar="PATH",
        help="the file of the keys; by default the one that TAILRACE_KEYS_FILE names",
    )

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=text, description=text, allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    adding = command("add", add, "Add a key. It is printed once, alone, to standard output.")
    adding.add_argument("--owner", type=_owner, required=True, metavar="NAME", help="the owner of what it starts")
    adding.add_argument(
        "--scope",
        type=_scope,
        nargs="+",
        action="extend",
        metavar="SCOPE",
        help="what it is for: `tasks` (the owner's), `functions:NAME` or `functions:*` (starting them), `admin` "
        "(all owners' tasks, pauses of functions); by default `tasks functions:*`",
    )
    adding.add_argument(
        "--expires", type=_expires, metavar="WHEN", help="90d, 12h, 30m, 45s, or a date; by default never"
    )
    adding.add_argument(
        "--limit",
        type=_limit,
        nargs="+",
        action="extend",
        metavar="NAME=N",
        help="in place of the settings: `requests` per second, `burst` at once, open `streams`, open `tasks`",
    )
    listing = command("list", list_keys, "List the keys: what the file has of each, but no key.")
    listing.add_argument("--json", action="store_true", help="as JSON")
    command("revoke", revoke, "Remove a key, by its id.").add_argument("id", metavar="ID", help="as `list` prints it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
