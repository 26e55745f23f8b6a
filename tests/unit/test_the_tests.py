"""Rules for the tests themselves: they wait in one way, and import what they share from where it can be found."""

import ast
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import ROOT

TESTS: Final = ROOT / "tests"

# The worker loads a function from a file of its own, as it loads what users write: there is no `until`.
FUNCTIONS: Final = TESTS / "functions"

# Functions that a loop calls only to let time pass.
PAUSES: Final = frozenset({"sleep", "ping"})


def is_pass(statement: ast.stmt) -> bool:
    """Whether it does nothing."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Continue) or constant


def is_pause(statement: ast.stmt) -> bool:
    """Whether it does nothing but let time pass, or look whether too much has."""
    if isinstance(statement, ast.Assert):
        return not any(isinstance(part, ast.Await) for part in ast.walk(statement.test))
    value = statement.value if isinstance(statement, ast.Expr) else None
    called = value.value if isinstance(value, ast.Await) else value
    if not isinstance(called, ast.Call):
        return is_pass(statement)
    name = called.func.attr if isinstance(called.func, ast.Attribute) else getattr(called.func, "id", "")
    return name in PAUSES


def busy_loops(tree: ast.AST) -> list[tuple[int, str]]:
    """The loops that wait, at full speed or at a speed of their own: lines, and what is wrong with each."""
    found = []
    for loop in ast.walk(tree):
        if isinstance(loop, ast.While) and all(map(is_pass, loop.body)):
            found.append((loop.lineno, "polls at full speed: use `until`"))
        elif isinstance(loop, ast.While) and all(map(is_pause, loop.body)):
            found.append((loop.lineno, "is an `until` made by hand: use the one there is"))
    return found


def borrowed(tree: ast.AST) -> list[tuple[int, str]]:
    """The imports out of a test module or a conftest: lines, and what is wrong with each."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            modules = [each.name for each in node.names]
        else:
            continue
        names = {part for module in modules for part in module.split(".")}
        if any(name.startswith("test_") or name == "conftest" for name in names):
            found.append((node.lineno, "imports out of a test: move what is shared to tests/support/"))
    return found


def faults(source: str, is_function: bool = False) -> list[tuple[int, str]]:
    """All that is wrong with a file, by line; with one of functions, only what it imports."""
    tree = ast.parse(source)
    return sorted([*borrowed(tree), *([] if is_function else busy_loops(tree))])


def test_the_rules_hold() -> None:
    """In every file of the tests."""
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 100
    found = [
        f"{file.relative_to(ROOT)}:{line} {what}"
        for file in files
        for line, what in faults(file.read_text(), file.is_relative_to(FUNCTIONS))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("body", ["pass", "...", "continue", "pass  # until it waits"])
@pytest.mark.parametrize("condition", ["not ready()", "not await redis.llen(key)", "(found := look()) is None"])
def test_a_loop_that_polls_at_full_speed(condition: str, body: str) -> None:
    """Is found, wherever it stands."""
    source = f"async def wait():\n    async with timeout(30):\n        while {condition}:\n            {body}\n"
    assert faults(source) == [(3, "polls at full speed: use `until`")]


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.sleep(0.01)",
        "time.sleep(0.01)",
        "sleep(0)",
        "await redis.ping()",
        "assert time.monotonic() < over, f'{await states()}'",
        "assert time.monotonic() < over; await asyncio.sleep(0.01)",
    ],
)
def test_an_until_made_by_hand(body: str) -> None:
    """Is found, whatever it passes its time with."""
    assert faults(f"async def wait():\n    while not await there():\n        {body}\n") == [
        (2, "is an `until` made by hand: use the one there is")
    ]


@pytest.mark.parametrize(
    "line",
    [
        "from tests.integration.test_replay_to_live import Writer",
        "from tests.integration import test_seam",
        "import tests.integration.test_replay_to_live as seam",
        "from .test_seam import Writer",
        "from . import test_seam",
        "from tests.integration.workers.conftest import forget",
        "from tests import conftest",
        "def late():\n    from tests.integration.test_replay_to_live import Writer",
    ],
)
def test_an_import_out_of_a_test(line: str) -> None:
    """Is found, in whatever form."""
    assert faults(line) == [(line.count("\n") + 1, "imports out of a test: move what is shared to tests/support/")]


@pytest.mark.parametrize(
    "source",
    [
        "while not reader.ended:\n    await reader.read()",  # reads on
        "while mark not in received:\n    assert await read()",
        "while True:\n    proxy.freeze()\n    await asyncio.sleep(0.01)",  # does something, again and again
        "for _ in range(3):\n    await asyncio.sleep(0)",
        "from tests.support.waiting import until",
        "from plugins.testing import run",
    ],
)
def test_what_is_none_of_these(source: str) -> None:
    """Loops that do something, and imports of what is meant to be imported, are let be."""
    assert faults(source) == []


def test_functions_wait_as_they_like() -> None:
    """A function may wait for a file by itself; it imports no test either."""
    loop = "while not gate.exists():\n    time.sleep(0.01)\n"
    assert faults(loop, is_function=True) == []
    assert len(faults(loop + "import test_seam\n", is_function=True)) == 1


def test_what_counts_as_a_function() -> None:
    """The exception is for files that workers load, and they are where it looks for them."""
    assert Path(FUNCTIONS, "failures.py").exists()
