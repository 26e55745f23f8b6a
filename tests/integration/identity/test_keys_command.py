"""`python -m services.api.keys`: an operator makes, lists and revokes API keys while the API runs."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import pytest

from services.api import keys
from services.api.identity.api_keys import KEY
from services.api.identity.key_edits import edit
from services.api.identity.key_file import read
from tests.support.key_files import KeyFile, bearer
from tests.support.processes import ROOT, Process
from tests.support.waiting import DEADLINE_S, until

COMMAND: Final = [sys.executable, "-m", "services.api.keys"]

# No decision about access, no Redis: the command needs none.
UNSET: Final = ("TAILRACE_AUTH", "TAILRACE_KEYS_FILE", "REDIS_URL")


class Done(NamedTuple):
    """The exit code of a command, and its two outputs."""

    code: int
    output: str
    said: str


def run(*arguments: str, **settings: str) -> Done:
    """Run the command in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name not in UNSET} | settings
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=env, cwd=ROOT, timeout=DEADLINE_S, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be. There is none."""
    return tmp_path / "keys.json"


@pytest.fixture
def here(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, as the file of commands that run in this process."""
    monkeypatch.setenv("TAILRACE_KEYS_FILE", str(path))
    yield path
    left = {entry.name for entry in path.parent.iterdir()} - {path.name}
    assert not left, "a command leaves no other file"


@pytest.mark.anyio
async def test_a_key_from_its_making_to_its_end(callers: httpx.AsyncClient, key_file: KeyFile) -> None:
    """The command prints the key alone. A running API takes the key at once, and no more when it is revoked."""
    made = run("add", "--owner", "ada", TAILRACE_KEYS_FILE=str(key_file.path))
    key = made.output.removesuffix("\n")
    assert (made.code, bool(KEY.fullmatch(key))) == (0, True), made
    assert "ada" in made.said
    assert key not in made.said

    async def status(expected: int) -> bool:
        return (await callers.get("/tasks", headers=bearer(key))).status_code == expected

    await until(lambda: status(200), "the key is known")
    revoked = run("revoke", key.split("_")[1], "--file", str(key_file.path))
    assert (revoked.code, revoked.output) == (0, "")
    await until(lambda: status(401), "the key is refused")


def test_the_first_key_makes_the_file(path: Path) -> None:
    """Its owner alone may read it. It says of a key what the command was asked for."""
    arguments = ["--scope", "tasks", "functions:count", "--expires", "90d", "--limit", "requests=100", "streams=5"]
    made = run("add", "--file", str(path), "--owner", "Ada L.", *arguments, "--limit", "tasks=7")
    assert made.code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    ((key_id, record),) = read(path).keys.items()
    assert key_id == made.output.split("_")[1]
    assert (record.owner, record.scopes) == ("Ada L.", ("tasks", "functions:count"))
    assert record.created is not None
    assert record.expires == record.created + timedelta(days=90)
    assert (record.limits.requests, record.limits.burst, record.limits.streams, record.limits.tasks) == (
        100,
        None,
        5,
        7,
    )
    assert made.output.strip().split("_")[2] not in path.read_text()


def test_a_file_keeps_its_owner_and_mode(here: Path) -> None:
    """So the API may read it that runs as another user."""
    assert keys.main(["add", "--owner", "ada"]) == 0
    here.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(here, 12_345, 23_456)
    before = here.stat()
    assert keys.main(["add", "--owner", "bob"]) == 0
    after = here.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_commands_at_once_lose_nothing(path: Path) -> None:
    """Of twenty that add a key to one file, each adds it, also to a file that none of them has found."""
    env = {"TAILRACE_KEYS_FILE": str(path)}
    commands = [Process([*COMMAND, "add", "--owner", f"owner {number}"], env) for number in range(20)]
    assert [command.wait() for command in commands] == [0] * 20
    records = read(path).keys.values()
    assert {record.owner for record in records} == {f"owner {number}" for number in range(20)}


def test_an_edit_that_fails_changes_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is as it was before, and nothing stays beside it."""
    assert keys.main(["add", "--owner", "ada"]) == 0
    before = here.read_bytes()

    def broken() -> None:
        with edit(here) as records:
            records.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert keys.main(["add", "--owner", "bob"]) == 1
    assert here.read_bytes() == before


def test_a_mounted_file(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a container has mounted by itself cannot be replaced: the message says what to mount."""

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "replace", busy)
    assert keys.main(["add", "--owner", "ada"]) == 1
    assert capsys.readouterr() == ("", f"{here}: it is mounted by itself: mount its folder instead\n")


def test_a_secret_of_kubernetes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is a symbolic link there: it can be listed, and a command that would replace the link says where to
    edit instead.
    """
    (tmp_path / "..2030").mkdir()
    (tmp_path / "..data").symlink_to("..2030")
    link = tmp_path / "keys.json"
    link.symlink_to("..data/keys.json")
    assert keys.main(["add", "--owner", "ada", "--file", str(tmp_path / "..2030" / "keys.json")]) == 0
    key_id = capsys.readouterr().out.split("_")[1]
    before = link.read_bytes()
    for arguments in (["add", "--owner", "bob"], ["revoke", key_id]):
        assert keys.main([*arguments, "--file", str(link)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"{link}: it is a symbolic link, as in a mounted Secret")
    assert (link.is_symlink(), link.read_bytes()) == (True, before)
    assert keys.main(["list", "--file", str(link)]) == 0
    assert key_id in capsys.readouterr().out


def test_a_file_that_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command says so, and where it is wrong; none writes over it."""
    for arguments in (["list"], ["revoke", "abc"]):
        assert keys.main(arguments) == 1
        assert capsys.readouterr() == ("", f"{here}: No such file or directory\n")
    here.write_text('{"keys": {"a": {"owner": 7}}}')
    for arguments in (["list"], ["revoke", "abc"], ["add", "--owner", "ada"]):
        assert keys.main(arguments) == 1
        assert "Expected `str`, got `int` - at `$.keys[...].owner`" in capsys.readouterr().err
    assert here.read_text() == '{"keys": {"a": {"owner": 7}}}'
    assert keys.main(["add", "--owner", "ada", "--file", str(here.parent / "none" / "keys.json")]) == 1
    assert "its folder does not exist" in capsys.readouterr().err


def test_a_list(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each key: id, owner, scopes, times, limits; the oldest first, and no digest. Control characters, which a
    terminal would obey, are escaped.
    """
    assert keys.main(["add", "--owner", "ada", "--limit", "tasks=5", "burst=9", "--expires", "1h"]) == 0
    assert keys.main(["add", "--owner", "bob", "--scope", "tasks"]) == 0
    now = datetime.now(UTC).replace(microsecond=0)
    with edit(here) as records:
        ada, bob = sorted(records.values(), key=lambda record: record.owner)
        records.clear()
        records["A"] = type(ada)(ada.sha256, "ada", ada.scopes, now - timedelta(days=1), now - timedelta(2), ada.limits)
        records["B"] = type(bob)(bob.sha256, "bob\x1b[2J", bob.scopes, None, now - timedelta(days=1))
        records["C"] = type(bob)(bob.sha256, "by hand", ())
    capsys.readouterr()

    assert keys.main(["list"]) == 0
    text = capsys.readouterr().out
    yesterday, before = (f"{now - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (1, 2))
    assert [line.split("  ") for line in _narrow(text)] == [
        ["ID", "OWNER", "SCOPES", "CREATED", "EXPIRES", "LIMITS"],
        ["C", "by hand", "-", "-", "-", "-"],
        ["A", "ada", "functions:* tasks", before, f"{yesterday} (expired)", "burst=9 tasks=5"],
        ["B", "'bob\\x1b[2J'", "tasks", yesterday, "-", "-"],
    ]
    assert keys.main(["list", "--json"]) == 0
    as_json = capsys.readouterr().out
    assert json.loads(as_json)[1] == {
        "id": "A",
        "owner": "ada",
        "scopes": ["functions:*", "tasks"],
        "created": before,
        "expires": yesterday,
        "expired": True,
        "limits": {"burst": 9, "tasks": 5},
    }
    assert [key["expired"] for key in json.loads(as_json)] == [False, True, False]
    for record in read(here).keys.values():
        assert record.sha256 not in text + as_json


def _narrow(table: str) -> list[str]:
    """The lines of a table, with two spaces between columns."""
    lines = table.splitlines()
    while "   " in "".join(lines):
        lines = [line.replace("   ", "  ") for line in lines]
    return lines


def test_an_unknown_key_is_not_revoked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code says so, and the file stays."""
    assert keys.main(["add", "--owner", "ada"]) == 0
    before = here.stat()
    capsys.readouterr()
    assert keys.main(["revoke", "abc"]) == 1
    assert capsys.readouterr() == ("", f"{here}: it has no key with the id 'abc': `list` prints the ids\n")
    assert here.stat() == before


NEXT_YEAR: Final = datetime.now(UTC).date() + timedelta(days=365)

EXPIRES: Final = {
    "90s": timedelta(seconds=90),
    "30m": timedelta(minutes=30),
    "12h": timedelta(hours=12),
    "7d": timedelta(days=7),
}


@pytest.mark.parametrize("text", EXPIRES)
def test_a_key_for_some_time(here: Path, text: str) -> None:
    """Seconds, minutes, hours or days from now on."""
    assert keys.main(["add", "--owner", "ada", "--expires", text]) == 0
    (record,) = read(here).keys.values()
    assert record.created is not None
    assert record.expires is not None
    assert (
        timedelta(0) <= record.created + timedelta(seconds=1) - (record.expires - EXPIRES[text]) <= timedelta(seconds=2)
    )


@pytest.mark.parametrize(
    ("text", "time"),
    [("", "00:00:00"), ("T12:00:00Z", "12:00:00"), ("T12:00:00+02:00", "10:00:00"), (" 12:00+00:00", "12:00:00")],
)
def test_a_key_until_a_date(here: Path, text: str, time: str) -> None:
    """A date is its first moment in UTC; a time has its zone."""
    assert keys.main(["add", "--owner", "ada", "--expires", f"{NEXT_YEAR}{text}"]) == 0
    (record,) = read(here).keys.values()
    assert record.expires == datetime.fromisoformat(f"{NEXT_YEAR}T{time}Z")


ADD: Final = ["add", "--owner", "a"]

WRONG: Final = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "no owner": (["add"], "the following arguments are required: --owner"),
    "an empty owner": (["add", "--owner", ""], "--owner: it is '': it should be a name of 1 to 200 printable"),
    "a blank owner": (["add", "--owner", " "], "--owner: it is ' ': it should be a name"),
    "a long owner": (["add", "--owner", "a" * 201], "it should be a name of 1 to 200 printable"),
    "an owner with a line break": (["add", "--owner", "a\nb"], r"it is 'a\nb': it should be a name"),
    "an owner that is no text": (["add", "--owner", "a\udcff"], r"it is 'a\udcff': it should be a name"),
    "an unknown scope": ([*ADD, "--scope", "tasks", "root"], "--scope: it is 'root': it should be `tasks`"),
    "half a scope": ([*ADD, "--scope", "functions:"], "it is 'functions:': it should be `tasks`"),
    "two scopes in one": ([*ADD, "--scope", "tasks,admin"], "it is 'tasks,admin': it should be"),
    "a scope with a line break": ([*ADD, "--scope", "tasks\n"], r"it is 'tasks\n': it should be"),
    "no scope": ([*ADD, "--scope"], "--scope: expected at least one argument"),
    "soon": ([*ADD, "--expires", "soon"], "--expires: it is 'soon': it should be 45s, 30m, 12h or 90d"),
    "no unit": ([*ADD, "--expires", "90"], "it is '90': it should be 45s"),
    "no time": ([*ADD, "--expires", "0d"], "it is '0d': it should be in the future"),
    "the past": ([*ADD, "--expires", "2020-01-01"], "it should be in the future, and at most"),
    "no zone": ([*ADD, "--expires", f"{NEXT_YEAR}T12:00:00"], "or a time with its zone such as"),
    "too long": ([*ADD, "--expires", "999999999d"], "at most 36525 days from now"),
    "far too long": ([*ADD, "--expires", "9" * 30 + "d"], "it should be 45s"),
    "the last date": ([*ADD, "--expires", "9999-12-31T23:59:59-14:00"], "at most 36525 days"),
    "an unknown limit": ([*ADD, "--limit", "cpu=1"], "--limit: it is 'cpu=1': it should be requests=N, burst=N"),
    "nothing": ([*ADD, "--limit", "tasks=0"], "it is 'tasks=0': it should be"),
    "half": ([*ADD, "--limit", "tasks=0.5"], "N is 1 to 999999999"),
    "no number": ([*ADD, "--limit", "tasks"], "it is 'tasks': it should be"),
    "no id": (["revoke"], "the following arguments are required: ID"),
    "a short option": (["list", "--js"], "unrecognized arguments: --js"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_command(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """The exit code is 2. The message names what is wrong, and says what would be right; nothing is written."""
    with pytest.raises(SystemExit) as ended:
        keys.main(arguments)
    output = capsys.readouterr()
    assert (ended.value.code, output.out) == (2, "")
    assert said in output.err
    assert not here.exists()


def test_without_a_file() -> None:
    """The message names the setting and the option."""
    done = run("list")
    assert (done.code, done.output) == (2, "")
    assert done.said == "TAILRACE_KEYS_FILE is not set: it should name the file of the API keys, or --file\n"


def test_the_help() -> None:
    """It says what each command and each option is for."""
    commands = run("--help").output
    options = run("add", "--help").output
    for word in ("add", "list", "revoke"):
        assert word in commands
    for word in ("--owner", "--scope", "--expires", "--limit", "--file", "TAILRACE_KEYS_FILE", "by default never"):
        assert word in options
