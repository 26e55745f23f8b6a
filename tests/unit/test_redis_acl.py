"""deploy/redis.acl allows each service the commands of its scripts, and keeps every other name from it."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins import scripts
from tests.support.launcher import ROOT
from tests.support.redis_acl import FILE, refusals, rules

CALL = re.compile(r"redis\.p?call\('(\w+)'(?:, *'(\w+)')?")

# Commands whose first argument says which of several they are.
CONTAINERS = {"XGROUP", "CLIENT", "SCRIPT", "XINFO"}


def texts(service: str) -> Iterator[tuple[str, str]]:
    """The scripts that a service sends, each with where it stands."""
    folder = ROOT / "services" / service
    sources = {path: path.read_text() for path in folder.rglob("*.py")}
    for path in folder.rglob("*.lua"):
        yield str(path.relative_to(ROOT)), scripts.read(path.name, str(path))
    for path, source in sources.items():
        yield str(path.relative_to(ROOT)), source
    for path in (ROOT / "plugins").glob("*.py"):
        module = importlib.import_module(f"plugins.{path.stem}")
        for name, text in vars(module).items():
            is_script = isinstance(text, str) and "redis.call" in text
            if is_script and any(uses(source, path.stem, name) for source in sources.values()):
                yield f"plugins.{path.stem}.{name}", text


def uses(source: str, module: str, name: str) -> bool:
    """Whether a file uses this name of a module of the contract, which it may call otherwise."""
    called = re.search(rf"^from plugins import .*\b{module} as (\w+)", source, re.MULTILINE)
    return f"{called.group(1) if called else module}.{name}" in source


def commands(text: str) -> set[str]:
    """The commands of a script, as an ACL names them."""
    return {f"{name}|{sub}".lower() if sub and name in CONTAINERS else name.lower() for name, sub in CALL.findall(text)}


@pytest.mark.parametrize("service", ["api", "worker"])
def test_a_script_runs_under_least_rights(service: str) -> None:
    """With the file in place, Redis refuses no command in the middle of a task's life."""
    allowed = {word[1:] for word in rules()[service] if word.startswith("+")}
    found = dict(texts(service))
    assert sum(bool(commands(text)) for text in found.values()) > 5
    for where, text in found.items():
        missing = commands(text) - allowed
        assert not missing, (
            f"{where} calls {', '.join(sorted(missing))}: add {' '.join(f'+{name}' for name in sorted(missing))} to "
            f"the line `user {service}` of {Path(FILE).relative_to(ROOT)}"
        )


def test_a_refused_command_says_what_to_add() -> None:
    """A contributor whose new command is refused reads which rule is missing, and where."""
    log = [
        {"username": "api", "reason": "command", "object": "hlen", "context": "lua"},
        {"username": "worker", "reason": "key", "object": "stream:7:notes", "context": "toplevel"},
        {"username": "worker", "reason": "auth", "object": "AUTH", "context": "toplevel"},
        {"username": "default", "reason": "command", "object": "debug", "context": "toplevel"},
    ]
    command, key = refusals(log)
    assert "add +hlen to the line `user api` of deploy/redis.acl" in command
    assert "add ~stream:7:notes to the line `user worker` of deploy/redis.acl" in key
