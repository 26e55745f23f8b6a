"""Rules for the words of the documents: named subjects, and a README that can be read in one go."""

import re
import tokenize
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Final

import pytest

from tests.support.documents import prose, read
from tests.support.processes import ROOT

# Subjects that name nothing: say which client, worker, service or reader it is.
NAMELESS: Final = re.compile(r"\b(who|whom|whoever|nobody|somebody|everybody|anybody)\b", re.IGNORECASE)

# The same of a sentence that begins with "What", in the tests and the benchmark: "What is refused takes no slot".
HEADLESS: Final = re.compile(r'(^|^"""|^# |[.:;] )What\b')


def remarks(source: str) -> str:
    """The comments of a Lua file. Lines keep their numbers."""
    return "\n".join(line.partition("--")[2] for line in source.splitlines())


def spoken(source: str) -> str:
    """The docstrings and comments of a Python file. Lines keep their numbers."""
    lines = [""] * len(source.splitlines())
    begins = True  # a statement; a string there is a docstring
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT or (begins and token.type == tokenize.STRING):
            for number, line in enumerate(token.string.splitlines(), token.start[0] - 1):
                lines[number] += line
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return "\n".join(lines)


# The files with this rule, by a pattern below the repository's root, and the function that returns their words, each in
# its line.
PLACES: Final[dict[str, Callable[[str], str]]] = {
    "README.md": prose,
    "CHANGELOG.md": prose,
    "docs/*.md": prose,
    "tests/README.md": prose,
    "tests/**/*.py": spoken,
    "bench/**/*.py": spoken,
    "plugins/**/*.py": spoken,
    "plugins/**/*.lua": remarks,
    "services/**/*.py": spoken,
    "services/**/*.lua": remarks,
    "functions/**/*.py": spoken,
    "scripts/**/*.py": spoken,
}

# Words of the README, without its code.
MOST: Final = 900

FILES: Final = [(path, words) for pattern, words in PLACES.items() for path in sorted(ROOT.glob(pattern))]


def faults(path: Path, words: Callable[[str], str], pattern: re.Pattern[str] = NAMELESS) -> list[str]:
    """The lines of a file that have a nameless subject."""
    lines = words(path.read_text()).splitlines()
    return [f"{path.name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if pattern.search(line)]


@pytest.mark.parametrize(("path", "words"), FILES, ids=[str(path.relative_to(ROOT)) for path, _ in FILES])
def test_subjects_are_named(path: Path, words: Callable[[str], str]) -> None:
    """Outside code, no word of `NAMELESS`."""
    assert faults(path, words) == []


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_no_sentence_begins_with_what(folder: str) -> None:
    """Docstrings and comments name their subject instead."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert [fault for file in files for fault in faults(file, spoken, HEADLESS)] == []


def test_the_readme_is_short() -> None:
    """Code blocks do not count, nor does what has no letter or digit."""
    counted = [word for word in prose(read("README.md")).split() if re.search(r"\w", word)]
    assert len(counted) <= MOST


def test_what_is_spoken() -> None:
    """Docstrings and comments, and no other strings, in the lines where they stand."""
    source = (
        '"""One.\n\nTwo."""\n# Three.\nwho = "who"  # Four.\n\ndef whom():\n    """Five."""\n    who("whom")  # Six.\n'
    )
    assert spoken(source).splitlines() == [
        '"""One.',
        "",
        'Two."""',
        "# Three.",
        "# Four.",
        "",
        "",
        '"""Five."""',
        "# Six.",
    ]
