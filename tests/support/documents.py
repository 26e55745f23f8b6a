"""The documents as tests read them: fenced blocks, transcripts of a shell, prose, links."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.processes import ROOT
from tests.support.waiting import DEADLINE_S

DOCS: Final = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))

# Every page that is written by hand or shown to readers, by its path from the root.
PAGES: Final = ("README.md", "CHANGELOG.md", "tests/README.md", *DOCS)

FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Printed between two commands of a transcript.
MARK: Final = "--- next ---"


class Block(NamedTuple):
    """A fenced block: its page, the line where it begins, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def path(self) -> str | None:
        """The file that the block is, named by a comment in its first line; None if it names none."""
        found = re.match(r"# (\w[\w/]*\.\w+)\n", self.text)
        return found.group(1) if found else None


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text()


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = read(page)
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found.group(1), found.group(2))
        for found in FENCE.finditer(text)
    ]


def script_of(page: str) -> str:
    """The only JavaScript of a page."""
    (block,) = [block for block in blocks(page) if block.language == "js"]
    return block.text


def prose(text: str) -> str:
    """A page without its fenced blocks. Lines keep their numbers."""
    return FENCE.sub(lambda found: "\n" * found.group().count("\n"), text)


def write_files(page: str, folder: Path) -> list[str]:
    """Write the Python files that a page shows into a folder; their paths in it."""
    written = []
    for block in blocks(page):
        if block.language == "python" and block.path:
            path = folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            written.append(block.path)
    return written


def transcript(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with what the page says that it prints."""
    commands = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (each.partition("\n") for each in commands)]


def run(block: Block, url: str) -> list[str]:
    """Run the commands of a console block in one shell, against this API; the output of each."""
    commands = [command for command, _ in transcript(block)]
    script = f"\necho '{MARK}'\n".join(commands).replace("http://127.0.0.1:8000", url)
    env = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    shell = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, check=True, cwd=ROOT, env=env
    )
    return shell.stdout.split(f"{MARK}\n")


def normal(output: str) -> str:
    """An output without what differs from run to run: ids, times, hashes, and the order of members in JSON objects."""
    output = re.sub(r"[0-9a-f]{32}", "<id>", output)
    output = re.sub(r"^[0-9A-Za-z]{10}  ", "<id>  ", output, flags=re.MULTILINE)
    output = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>", output)
    output = re.sub(r"retry: \d{4}", "retry: <ms>", output)
    output = re.sub(r'version":"[0-9a-f]{12}"', 'version":"<hash>"', output)
    output = re.sub(r'(at|until)":\d{13}', r'\1":0', output)
    return "\n".join(ordered(line) for line in output.rstrip("\n").split("\n"))


def ordered(line: str) -> str:
    """A line that is a JSON object, its members in order; any other line as it is."""
    try:
        return json.dumps(json.loads(line), sort_keys=True) if line.startswith("{") else line
    except ValueError:
        return line


def links(page: str) -> Iterator[str]:
    """The targets of a page's links and pictures, but for other sites."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(page))):
        if "://" not in target:
            yield target


def anchors(page: str) -> set[str]:
    """The anchors of this page that links may name: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", prose(read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
