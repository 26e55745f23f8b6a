"""A run of the tests chooses its Redis, also on a machine without a Docker engine."""

import gc
import socket
import warnings
from pathlib import Path
from threading import Thread

import pytest

from tests.support.redis_servers import choice, engine_answers


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path at which no Docker engine listens, and at which every Docker client looks."""
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    return path


def left_behind() -> list[str]:
    """The sockets that are left open after asking for an engine that does not answer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not engine_answers()
        gc.collect()
    return [str(warning.message) for warning in caught]


@pytest.mark.usefixtures("no_engine")
def test_no_engine_leaves_nothing_open() -> None:
    """No later test fails because a socket to Docker was left open."""
    assert left_behind() == []


def test_an_engine_that_hangs_up_leaves_nothing_open(no_engine: Path) -> None:
    """A socket that accepts and answers nothing is no engine, and no later test fails because of it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(no_engine))
        listener.listen()
        listener.settimeout(20)
        hanging_up = Thread(target=lambda: listener.accept()[0].close())
        hanging_up.start()
        assert left_behind() == []
        hanging_up.join()


@pytest.mark.usefixtures("no_engine")
def test_the_bundled_server_is_chosen_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run without Docker; a run that asks for a container is told why there is none."""
    monkeypatch.delenv("TEST_REDIS", raising=False)
    assert choice() == "embedded"
    monkeypatch.setenv("TEST_REDIS", "container")
    with pytest.raises(ValueError, match="no Docker engine answers"):
        choice()
    monkeypatch.setenv("TEST_REDIS", "Docker")
    with pytest.raises(ValueError, match="must be `container` or `embedded`, not 'Docker'"):
        choice()
