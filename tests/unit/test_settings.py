"""A setting that is wrong stops the process at its start, and the message says what would be right."""

import re
import sys

import pytest

from services.api.settings import Settings as ApiSettings
from services.worker.settings import Settings as WorkerSettings
from tests.support.processes import Process

API = [sys.executable, "-m", "uvicorn", "--factory", "services.api.app:create_app", "--port", "0"]
WORKER = [sys.executable, "-m", "taskiq", "worker", "services.worker.app:broker", "--workers", "2"]

NUMBERS = [
    (settings, f"TAILRACE_{name.upper()}")
    for settings in (ApiSettings, WorkerSettings)
    for name in settings.model_fields
    if name.endswith("_s") or name == "redis_connections"
]


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf", "1e9", ""])
@pytest.mark.parametrize(("settings", "variable"), NUMBERS)
def test_a_number_that_is_none(
    settings: type[ApiSettings | WorkerSettings], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable, its value, and what it should be."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as stopped:
        settings.read()
    assert re.fullmatch(rf"{variable} is '{value}': it should be .+", str(stopped.value))


@pytest.mark.parametrize("settings", [ApiSettings, WorkerSettings])
def test_a_url_that_is_none(settings: type[ApiSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names REDIS_URL and the schemes that there are."""
    monkeypatch.setenv("REDIS_URL", "localhost:6379")
    with pytest.raises(SystemExit, match=r"REDIS_URL is 'localhost:6379': .*redis://"):
        settings.read()


def test_a_lease_that_is_over_before_it_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that renews too late would lose all its tasks: the message names both variables."""
    monkeypatch.setenv("TAILRACE_RENEW_S", "15")
    with pytest.raises(SystemExit, match=r"TAILRACE_RENEW_S is 15: it should be less than TAILRACE_LEASE_S \(15\)"):
        WorkerSettings.read()


@pytest.mark.parametrize("command", [API, WORKER])
def test_a_service_that_is_told_nonsense(command: list[str]) -> None:
    """It ends at once, all its processes do, with an exit code that tells, and says every fault in one go."""
    process = Process(command, {"TAILRACE_LEASE_S": "0", "REDIS_URL": "3"})
    try:
        assert process.wait() != 0
    finally:
        process.kill()
    assert "TAILRACE_LEASE_S is '0': it should be greater than 0" in process.output
    assert "REDIS_URL is '3': " in process.output
    assert "Traceback" not in process.output
