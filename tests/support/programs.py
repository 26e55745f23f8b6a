"""Programs that a test needs and uv does not install: where one is missing, the test is skipped; in CI it fails."""

import os
import shutil
from typing import NoReturn

import pytest


def program(name: str) -> str:
    """The path of this program. Without it the test is skipped, unless TEST_PROGRAMS says that all are there."""
    # A server's folder may be in the PATH of root only.
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin"]))
    return found or missing(f"{name} is not installed")


def missing(why: str) -> NoReturn:
    """Skip the test for this reason, unless TEST_PROGRAMS says that all programs are there."""
    if os.environ.get("TEST_PROGRAMS") == "all":
        pytest.fail(f"TEST_PROGRAMS=all, but {why}")
    pytest.skip(why)
