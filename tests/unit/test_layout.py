"""docs/layout.md is the tree: every file of the product has its line there, and every line is a file, at that path."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
PRODUCT: Final = ("plugins", "services")


def mapped(page: str) -> Iterator[str]:
    """The paths of the map, by their indentation; a folder's ends with a slash."""
    above: list[str] = []
    for line in page.partition("```\n")[2].partition("```")[0].splitlines():
        found = re.fullmatch(r"((?:  )*)(\S+)  +\S.*", line)
        assert found, f"no name, or nothing about it: {line!r}"
        indentation, name = found.groups()
        del above[len(indentation) // 2 :]
        yield "".join([*above, name])
        above.append(name)


def there() -> Iterator[str]:
    """The files of the product, and its folders, whose sentence is that of their `__init__.py`."""
    for path in (path for folder in PRODUCT for path in (ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(ROOT)
            yield f"{relative.parent}/" if path.name == "__init__.py" else str(relative)


def test_the_map_is_the_tree() -> None:
    """In both directions, each file once."""
    page = (ROOT / "docs" / "layout.md").read_text()
    assert sorted(mapped(page)) == sorted(there())
