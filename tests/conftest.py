"""The Redis that the tests run against, named in the first and the last lines of a run."""

import inspect
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.workermanage import NodeManager

# The APIs of the tests serve every caller, unless a test is about callers.
os.environ["TAILRACE_AUTH"] = "none"

# So that an assert that fails there shows its values, as one in a test does. It counts for what is imported later.
pytest.register_assert_rewrite("tests.support")

from services.worker import logs  # noqa: E402
from tests.support import redis_servers  # noqa: E402
from tests.support.patience import given_up, patience_s  # noqa: E402

chosen_key = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose once: the processes that pytest-xdist starts find the choice in their environment."""
    try:
        config.stash[chosen_key] = os.environ["TEST_REDIS"] = redis_servers.choice()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if hasattr(config, "workerinput"):
        # One of pytest-xdist's. Ctrl-C ends it at once: keepers end the processes that it has started.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    # Seconds for those that had not come so far when they were interrupted.
    NodeManager.EXIT_TIMEOUT = 1


def said(config: pytest.Config) -> str:
    """The chosen kind of Redis, in a line."""
    if config.stash[chosen_key] == "container":
        return f"redis: {redis_servers.IMAGE} in a container (testcontainers)"
    return "redis: the BUNDLED Valkey server, NOT a container: TEST_REDIS=embedded, or no Docker engine answers"


def pytest_report_header(config: pytest.Config) -> str:
    """The first lines of the run."""
    return said(config)


versions: set[str] = set()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process of pytest-xdist's: hand over which servers answered."""
    if isinstance(output := getattr(session.config, "workeroutput", None), dict):
        output["versions"] = sorted(versions)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the process that the others report to."""
    versions.update(getattr(node, "workeroutput", {}).get("versions", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The last lines of the run."""
    terminalreporter.write_line(f"{said(config)}{''.join(f'; {version}' for version in sorted(versions))}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let every test begin with the logs of a worker: an application that another has made configures them, too.

    As structlog comes, a traceback shows every variable, and takes seconds for that.
    """
    logs.configure("console")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Give every asynchronous test a time limit."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = given_up(item.obj, patience_s(item))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests run on the loop that the services run on."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """A real Redis for the whole run."""
    server = redis_servers.container if pytestconfig.stash[chosen_key] == "container" else redis_servers.embedded
    with server() as url:
        versions.add(redis_servers.version(url))
        yield url


@pytest.fixture(scope="session")
def databases(redis_url: str) -> redis_servers.Databases:
    """The databases of that Redis which a test, or a module, may have for itself."""
    return redis_servers.Databases(redis_url)


@pytest.fixture
def own_database(databases: redis_servers.Databases) -> Iterator[str]:
    """The URL of a database that is empty and that this test has alone."""
    with databases.one() as url:
        yield url


@pytest.fixture(scope="module")
def own_url(databases: redis_servers.Databases) -> Iterator[str]:
    """The URL of a database that this module has alone."""
    with databases.one() as url:
        yield url
