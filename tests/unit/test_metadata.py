"""The metadata's fields: the scripts, which name them as text, name those of the list; Python names none as text."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from plugins import metadata

ROOT: Final = Path(metadata.__file__).parent.parent
FIELDS: Final = {value for name, value in vars(metadata).items() if name.isupper()}

# Commands of scripts, and whether a value follows each field.
COMMANDS: Final = {
    "HGET": False,
    "HMGET": False,
    "HEXISTS": False,
    "HDEL": False,
    "HSET": True,
    "HSETNX": True,
    "HINCRBY": True,
}

# Python writes and reads these, no script does.
PYTHONS: Final = {metadata.VERSION, metadata.RESERVATION}


def sources(pattern: str) -> list[Path]:
    """The product's files of this kind."""
    return sorted(path for folder in ("plugins", "services") for path in (ROOT / folder).rglob(pattern))


def arguments(script: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a script on the hash of its task, each with its arguments."""
    for call in re.finditer(r"redis\.call\('(H\w+)', (?:task|KEYS\[\d\]), ((?:[^()]|\([^()]*\))*)\)", script):
        yield call[1], [argument.strip() for argument in re.split(r",(?![^()]*\))", call[2])]


def named(script: str) -> set[str]:
    """The fields that a script names."""
    found = set()
    for command, given in arguments(script):
        for field in given[:: 2 if COMMANDS[command] else 1]:
            found.update(re.findall(r"^'(\w+)'$", field))
    return found


def test_the_scripts_name_the_fields_of_the_list() -> None:
    """No script names a field that is not in the list, and each field of the list is a script's or Python's alone."""
    scripts = [text for path in sources("*.lua") if "metadata (hash)" in (text := path.read_text())]
    assert len(scripts) == 14
    assert set().union(*map(named, scripts)) == FIELDS - PYTHONS
    assert PYTHONS < FIELDS


@pytest.mark.parametrize("path", sources("*.py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_python_names_no_field_as_text(path: Path) -> None:
    """Code that reads or writes a task's metadata takes its fields from the list."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and call.args and ast.unparse(call.args[0]).startswith("keys.metadata("):
            texts = [each.value for each in ast.walk(call) if isinstance(each, ast.Constant)]
            assert FIELDS.isdisjoint(texts), f"{path}:{call.lineno}"
