"""Packages of npm for a test: it is skipped where they cannot be had, and fails in CI."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.programs import missing, program

# Seconds for npm to install them.
INSTALL_S: Final = 100


def install(packages: Sequence[str], folder: Path) -> Path:
    """Install these packages for the scripts of this folder, which are modules; where they are."""
    (folder / "package.json").write_text('{"type": "module"}')
    command = [program("npm"), "install", "--no-audit", "--no-fund", "--prefer-offline", *packages]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=True)
    except subprocess.SubprocessError as error:
        missing(f"npm cannot install {' '.join(packages)}: {error}")
    return folder / "node_modules"
