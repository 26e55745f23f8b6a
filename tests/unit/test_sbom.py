"""`make sbom` lists what each image is made of: an operator looks there whether a vulnerability concerns them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The components of each service's list."""
    folder = tmp_path_factory.mktemp("sbom")
    subprocess.run(["make", "sbom", f"SBOM={folder}"], cwd=ROOT, check=True, capture_output=True)
    documents = {service: json.loads(Path(folder, f"{service}.cdx.json").read_text()) for service in ("api", "worker")}
    assert all(document["bomFormat"] == "CycloneDX" for document in documents.values())
    return {service: document["components"] for service, document in documents.items()}


def test_each_package_of_an_image_is_listed(components: dict[str, list[dict[str, Any]]]) -> None:
    """With the version of the lock, and an address by which databases of vulnerabilities find it."""
    packages = re.findall(r'^name = "(.+)"\nversion = "(.+)"', (ROOT / "uv.lock").read_text(), re.MULTILINE)
    for listed in components.values():
        assert len(listed) > 10
        for each in listed:
            assert (each["name"], each["version"]) in packages
            assert each["purl"].startswith(f"pkg:pypi/{each['name']}@{each['version']}")


def test_an_image_has_no_other_packages(components: dict[str, list[dict[str, Any]]]) -> None:
    """A list names nothing that only the other service, or development, installs."""
    api, worker = ({each["name"] for each in components[service]} for service in ("api", "worker"))
    assert {"litestar", "redis"} <= api
    assert {"taskiq", "redis"} <= worker
    assert "taskiq" not in api
    assert "litestar" not in worker
    assert "pytest" not in api | worker
